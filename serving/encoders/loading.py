"""The bundles folder: which bundles lie in it, whether one fits the memory, and its encoders, loaded and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from models.bundle.encoder import Encoder
from models.bundle.load import load_bundle
from serving.encoders.aliases import read_aliases, write_aliases
from serving.encoders.config import RuntimeConfig
from serving.errors import BundleTooLarge, EncoderNotFound, FailedPrecondition

__all__ = ["BundleFolder", "Stamp", "available_memory_bytes", "load_encoders"]

Stamp = tuple[tuple[str, int, int], ...]
"""Path, size and time of each file of a bundle."""

MANIFEST = "diptych.json"
MEMORY_FACTOR = 2.0
"""Memory that a graph takes once it is loaded, in sizes of its file: weights, and what the runtime packs of them."""


def load_encoders(bundle_dir: Path, config: RuntimeConfig) -> list[Encoder]:
    """Loads and checks the encoders of one bundle.

    Args:
        bundle_dir: The bundle.
        config: Precision and threads.

    Returns:
        Its encoders, each having reproduced its golden vectors here.

    Raises:
        BundleError: The bundle is damaged, incomplete, or computes something else on this machine.
    """
    bundle = load_bundle(bundle_dir, precision=config.precision, threads=config.graph_threads)
    return list(bundle.encoders.values())


def available_memory_bytes() -> int | None:
    """Returns how much memory a process may still take without swapping, by the kernel and by the control group.

    Returns:
        Bytes; None where this system tells neither.
    """
    found = []
    meminfo = _read("/proc/meminfo")
    if meminfo is not None:
        fields = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
        if "MemAvailable" in fields:
            found.append(int(fields["MemAvailable"].split()[0]) * 1024)
    limit, used = _read("/sys/fs/cgroup/memory.max"), _read("/sys/fs/cgroup/memory.current")
    if limit is not None and used is not None and limit.strip().isdigit():
        found.append(max(0, int(limit) - int(used)))
    return min(found, default=None)


class BundleFolder:
    """A folder of bundles, or one bundle.

    Args:
        path: The folder; None has none.
        config: Precision and threads.
        processes: How many load each bundle; there must be room for it in all of them.
        load: Turns a bundle's folder into encoders; tests give another.
        available: Tells the memory that is left; None where unknown.
    """

    def __init__(
        self,
        path: Path | None,
        config: RuntimeConfig,
        *,
        processes: int = 1,
        load: Callable[[Path, RuntimeConfig], Sequence[Encoder]] = load_encoders,
        available: Callable[[], int | None] = available_memory_bytes,
    ) -> None:
        self.path = path
        """The folder."""
        self._config = config
        self._processes = processes
        self._load = load
        self._available = available

    def find(self) -> list[Path]:
        """Finds the bundles; a name that begins with a dot is a bundle that is still being written.

        Returns:
            Their folders, by name.

        Raises:
            ValueError: The folder does not exist.
        """
        if self.path is None:
            return []
        if not self.path.is_dir():
            raise ValueError(f"bundles folder '{self.path}' does not exist; create it or name another")
        if self._is_bundle:
            return [self.path]
        found = (path.parent for path in self.path.glob(f"*/{MANIFEST}"))
        return sorted(folder for folder in found if not folder.name.startswith("."))

    def stamps(self) -> Mapping[str, Stamp]:
        """Returns what tells that a bundle has changed, or is being copied just now: its files' sizes and times.

        Returns:
            By the folder's name.

        Raises:
            OSError: A file was removed meanwhile; look again.
            ValueError: The folder does not exist.
        """
        return {folder.name: _stamp(folder) for folder in self.find()}

    def named(self, name: str) -> Path:
        """Finds one bundle.

        Args:
            name: Of its folder; never a path.

        Returns:
            The folder.

        Raises:
            EncoderNotFound: There is none of that name.
        """
        for folder in self.find():
            if folder.name == name:
                return folder
        raise EncoderNotFound(
            f"no bundle named '{name}' is under the bundles folder; put it there, and give its folder's name alone",
            encoder=name,
        )

    def aliases(self) -> Mapping[str, str]:
        """Reads what further names the encoders have.

        Returns:
            What each alias means; a bundle served alone has none.

        Raises:
            ValueError: The file is damaged.
            OSError: It cannot be read.
        """
        return {} if self.path is None or self._is_bundle else read_aliases(self.path)

    def write_aliases(self, aliases: Mapping[str, str]) -> None:
        """Keeps what further names the encoders have.

        Args:
            aliases: What each means.

        Raises:
            FailedPrecondition: The folder cannot be written, or is a bundle itself.
        """
        if self.path is None or self._is_bundle:
            raise FailedPrecondition(
                "the server has one bundle and no folder of bundles, so there is no place for aliases"
            )
        write_aliases(self.path, aliases)

    @property
    def _is_bundle(self) -> bool:
        return self.path is not None and (self.path / MANIFEST).is_file()

    def load(self, folder: Path) -> Sequence[Encoder]:
        """Loads and checks a bundle's encoders; blocks.

        Args:
            folder: As `find` gave it.

        Returns:
            Its encoders.

        Raises:
            BundleError: The bundle is damaged, incomplete, or computes something else on this machine.
            BundleTooLarge: It would take more memory than there is.
        """
        self._check_memory(folder)
        return self._load(folder, self._config)

    def _check_memory(self, folder: Path) -> None:
        graphs = [path.stat().st_size for path in folder.rglob("*.onnx*") if path.is_file()]
        # Of several precisions one is loaded; the largest is fp32's.
        needed = round(MEMORY_FACTOR * max(graphs, default=0)) * self._processes
        available = self._available()
        if available is not None and needed > available:
            raise BundleTooLarge(
                f"bundle '{folder.name}' takes about {needed / 1e6:.0f} MB{self._where()} and "
                f"{available / 1e6:.0f} MB are free; "
                "unload another encoder first, or use a machine with more memory",
                needed_bytes=needed,
                available_bytes=available,
            )

    def _where(self) -> str:
        return f" in {self._processes} processes" if self._processes > 1 else ""


def _stamp(folder: Path) -> Stamp:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found = ((path, path.stat()) for path in files)
    return tuple((str(path.relative_to(folder)), status.st_size, status.st_mtime_ns) for path, status in found)


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii")
    except OSError:
        return None

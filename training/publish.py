"""Publishing on disk: a reader sees a file or folder whole, or not at all."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "publish_file",
    "publish_folder",
    "publish_json",
    "publish_text",
    "require_free",
    "staging_folder",
    "sync_path",
]

_STALE_AFTER_S = 60.0


@contextmanager
def staging_folder(destination: Path) -> Iterator[Path]:
    """Gives a fresh folder beside the destination, on the same file system, and removes what is left of it.

    What a killed process left behind for the same destination is removed first.

    Args:
        destination: What will be published.

    Yields:
        The folder to fill, and then to hand to `publish_folder`.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(destination)
    staging = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", suffix=".partial", dir=destination.parent))
    descriptor = os.open(staging, os.O_RDONLY)
    try:
        # The lock says that its process lives; the kernel drops it with the process.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # mkdtemp gives 0700; what is published has the permissions that the user's umask says.
        staging.chmod(0o777 & ~_umask())
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(descriptor)


def require_free(destination: Path) -> None:
    """Checks that something can be published here; called before the work too, so that none is lost.

    Args:
        destination: Its final path.

    Raises:
        ValueError: There is a file, or a folder that is not empty.
    """
    if destination.is_file() or (destination.is_dir() and any(destination.iterdir())):
        raise ValueError(f"{destination} exists already; remove it or choose another place")


def publish_folder(staging: Path, destination: Path) -> None:
    """Moves a finished folder to its place in one step.

    Args:
        staging: What `staging_folder` gave, filled, its files synced where they must survive a power cut.
        destination: Its final path; must not exist, or be an empty folder.
    """
    require_free(destination)
    sync_path(staging)
    staging.rename(destination)
    sync_path(destination.parent)


def publish_file(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file aside and puts it in its place in one step, synced.

    Args:
        path: Its final path, in an existing folder; a file there is replaced.
        write: Writes the content to the path it is given.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        sync_path(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_path(path.parent)


def publish_text(path: Path, text: str) -> None:
    """Publishes a text file.

    Args:
        path: As `publish_file`'s.
        text: Its content, written as UTF-8.
    """
    publish_file(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def publish_json(path: Path, value: Mapping[str, object]) -> None:
    """Publishes a JSON file, indented, keys in the order given.

    Args:
        path: As `publish_file`'s.
        value: Strings, numbers, lists and maps.
    """
    publish_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def sync_path(path: Path) -> None:
    """Makes a written file's bytes, or a folder's entries, survive a power cut.

    Args:
        path: The folder, or the file, already written and closed.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_abandoned(destination: Path) -> None:
    for left in destination.parent.glob(f".{destination.name}.*.partial"):
        try:
            descriptor = os.open(left, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # One that is younger may have been made by a process that has not locked it yet.
            if time.time() - left.stat().st_mtime > _STALE_AFTER_S:
                shutil.rmtree(left, ignore_errors=True)
        except OSError:
            continue  # its process lives, or another one has just removed it
        finally:
            os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

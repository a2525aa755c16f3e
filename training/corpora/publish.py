"""Publishing on disk: a reader sees a file or folder whole, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["publish_folder", "staging_folder", "sync_file", "write_json"]


@contextmanager
def staging_folder(destination: Path) -> Iterator[Path]:
    """Gives a fresh folder beside the destination, on the same file system, and removes what is left of it.

    Args:
        destination: What will be published.

    Yields:
        The folder to fill, and then to hand to `publish_folder`.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", suffix=".partial", dir=destination.parent))
    try:
        # mkdtemp gives 0700; what is published has the permissions that the user's umask says.
        staging.chmod(0o777 & ~_umask())
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def publish_folder(staging: Path, destination: Path) -> None:
    """Moves a finished folder to its place in one step.

    Args:
        staging: What `staging_folder` gave, filled, its files synced where they must survive a power cut.
        destination: Its final path; must not exist, or be an empty folder.

    Raises:
        ValueError: The destination is taken.
    """
    _sync_folder(staging)
    try:
        staging.rename(destination)
    except OSError as error:
        if destination.exists():
            raise ValueError(f"{destination} exists already; remove it or choose another place") from error
        raise
    _sync_folder(destination.parent)


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Writes a JSON file whole and synced, indented, keys in the order given.

    Args:
        path: Where; an existing file is replaced in one step.
        value: Strings, numbers, lists and maps.
    """
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sync_file(partial)
    partial.replace(path)


def sync_file(path: Path) -> None:
    """Makes a written file's bytes survive a power cut.

    Args:
        path: The file, already written and closed.
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""Files that are wholly there or not at all, after a crash or a power loss."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

__all__ = ["checksum_file", "make_folder", "publish_folder", "replace_file", "reserve_file", "sync_path"]

_BLOCK_BYTES = 1 << 22


def sync_path(path: Path) -> None:
    """Waits until a file's bytes, or a folder's entries, are on the disk.

    Args:
        path: An existing file or folder.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Makes a folder, and those above it that are missing, so that a power loss does not take them away.

    Args:
        path: May be there already.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_path(folder.parent)


def publish_folder(draft: Path, final: Path) -> None:
    """Makes a finished folder appear under its name, whole.

    Args:
        draft: Folder of plain files, on the same file system.
        final: Its name; nothing may exist there.
    """
    for file in sorted(draft.iterdir()):
        sync_path(file)
    sync_path(draft)
    draft.rename(final)
    sync_path(final.parent)


def replace_file(path: Path, text: str) -> None:
    """Writes a small file in place of the old one: after a power loss one of them is there, whole.

    Args:
        path: The file; the new one is prepared beside it under a hidden name.
        text: What it shall hold, in UTF-8.

    Raises:
        OSError: The folder cannot be written; the old file stays.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        sync_path(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    sync_path(path.parent)


def reserve_file(path: Path) -> None:
    """Takes the room of a whole file, so that writing to it through memory cannot fail.

    A page of mapped memory for which the disk has no room kills the process when it is written.

    Args:
        path: A file of its final size.

    Raises:
        OSError: The disk has no room for it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.posix_fallocate(descriptor, 0, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def checksum_file(path: Path) -> int:
    """Returns the CRC-32 of a file's bytes.

    Args:
        path: File to read, in blocks of 4 MiB.

    Returns:
        Unsigned 32-bit checksum.
    """
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            checksum = zlib.crc32(block, checksum)
    return checksum

"""Byte strings of any length, appended to a few large files."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import IO

__all__ = ["BlobReader", "BlobWriter", "Place"]

Place = tuple[int, int, int]
"""Number of the file, first byte, length."""

_FILE_BYTES = 256 << 20


class BlobWriter:
    """Appends byte strings to numbered files of at most about 256 MiB.

    Args:
        folder: Receives the files.
        prefix: Beginning of their names.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        self._folder = folder
        self._prefix = prefix
        self._number = -1
        self._file: IO[bytes] | None = None

    def append(self, content: bytes) -> Place:
        """Writes one byte string.

        Args:
            content: The bytes.

        Returns:
            Where they lie.
        """
        if self._file is None or self._file.tell() + len(content) > _FILE_BYTES:
            self.close()
            self._number += 1
            self._file = _path(self._folder, self._prefix, self._number).open("wb")
        start = self._file.tell()
        self._file.write(content)
        return (self._number, start, len(content))

    def close(self) -> None:
        """Closes the current file; what was appended is complete."""
        if self._file is not None:
            self._file.close()
            self._file = None


class BlobReader:
    """Reads what a `BlobWriter` wrote, by memory-mapped files.

    Args:
        folder: Holds the files.
        prefix: Beginning of their names.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        self._folder = folder
        self._prefix = prefix
        self._files: dict[int, mmap.mmap] = {}

    def read(self, place: Place) -> bytes:
        """Reads one byte string.

        Args:
            place: What `append` returned.

        Returns:
            The bytes.
        """
        number, start, length = place
        if number not in self._files:
            with _path(self._folder, self._prefix, number).open("rb") as file:
                self._files[number] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._files[number][start : start + length]


def _path(folder: Path, prefix: str, number: int) -> Path:
    return folder / f"{prefix}-{number:05d}.bin"

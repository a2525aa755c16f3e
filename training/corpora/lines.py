"""JSON lines that are read one by one from disk, by number: what a pack knows of its items."""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["LineReader", "LineWriter"]


class LineWriter:
    """Appends JSON objects to a file, one a line, and writes beside it where each begins.

    Args:
        path: The file; where its lines begin is written by `finish`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._offsets = [0]

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def append(self, value: Mapping[str, object]) -> None:
        """Writes one line.

        Args:
            value: A JSON object.
        """
        line = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        self._file.write(line)
        self._offsets.append(self._offsets[-1] + len(line))

    def close(self) -> None:
        """Closes the file, finished or not."""
        self._file.close()

    def finish(self) -> None:
        """Completes both files."""
        self.close()
        np.save(_offsets_path(self._path), np.array(self._offsets, dtype=np.int64))


class LineReader:
    """Reads what a `LineWriter` wrote; the lines stay on disk until they are asked for.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._offsets = np.load(_offsets_path(path))  # [n + 1] int64
        with path.open("rb") as file:
            # An empty file cannot be mapped.
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self._offsets[-1] else b""

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, number: int) -> dict[str, Any]:
        if not 0 <= number < len(self):
            raise IndexError(f"line {number} of {len(self)}")
        value: dict[str, Any] = json.loads(self._bytes[self._offsets[number] : self._offsets[number + 1]])
        return value


def _offsets_path(path: Path) -> Path:
    return path.with_suffix(".offsets.npy")

"""One array in chunks: appended to at the end, changed by copying a chunk, so that a snapshot costs next to nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHUNK_ROWS", "ChunkedArray", "map_chunks"]

CHUNK_ROWS = 65_536
_FIRST_ROWS = 256


class ChunkedArray:
    """Rows of one dtype. Every chunk but the last is full; rows that a snapshot shows never change.

    Args:
        dtype: Of a value.
        shape: Of a value.
    """

    def __init__(self, dtype: type[np.generic], shape: tuple[int, ...] = ()) -> None:
        self._dtype = dtype
        self._shape = shape
        self._chunks: list[NDArray[Any]] = []
        self._private: set[int] = set()
        self._snapshot: tuple[NDArray[Any], ...] | None = None
        self.count = 0
        """Rows."""

    def append(self, values: NDArray[Any]) -> None:
        """Adds rows at the end.

        Args:
            values: `[n, ...]`.
        """
        self._snapshot = None
        done = 0
        while done < len(values):
            number, used = divmod(self.count, CHUNK_ROWS)
            new = min(len(values) - done, CHUNK_ROWS - used)
            self._make_room(number, used, used + new)
            self._chunks[number][used : used + new] = values[done : done + new]
            self.count += new
            done += new

    def replace(self, row: int, value: Any) -> None:
        """Changes one row; what a snapshot shows stays.

        Args:
            row: In [0, count).
            value: Its new value.
        """
        number, place = divmod(row, CHUNK_ROWS)
        if number not in self._private:
            self._chunks[number] = self._chunks[number].copy()
            self._private.add(number)
        self._chunks[number][place] = value
        self._snapshot = None

    def row(self, row: int) -> Any:
        """Returns one row.

        Args:
            row: In [0, count).

        Returns:
            Its value.
        """
        number, place = divmod(row, CHUNK_ROWS)
        return self._chunks[number][place]

    def snapshot(self) -> tuple[NDArray[Any], ...]:
        """Returns the rows as they are now, in chunks, whatever is done later."""
        if self._snapshot is None:
            self._private.clear()
            starts = range(0, self.count, CHUNK_ROWS)
            self._snapshot = tuple(
                chunk[: min(CHUNK_ROWS, self.count - start)] for chunk, start in zip(self._chunks, starts, strict=False)
            )
        return self._snapshot

    def whole(self) -> NDArray[Any]:
        """Returns all rows as one array, `[count, ...]`."""
        return np.concatenate([np.empty((0, *self._shape), dtype=self._dtype), *self.snapshot()])

    def _make_room(self, number: int, used: int, needed: int) -> None:
        if number == len(self._chunks):
            rows = CHUNK_ROWS if number else max(_FIRST_ROWS, needed)
            self._chunks.append(np.zeros((rows, *self._shape), dtype=self._dtype))
            self._private.add(number)
        old = self._chunks[number]
        if needed > len(old):
            self._chunks[number] = np.zeros((min(CHUNK_ROWS, max(4 * len(old), needed)), *self._shape), self._dtype)
            self._chunks[number][:used] = old[:used]
            self._private.add(number)


def map_chunks(test: Callable[..., NDArray[np.bool_]], *arrays: tuple[NDArray[Any], ...]) -> NDArray[np.bool_]:
    """Applies a test chunk by chunk.

    Args:
        test: Takes one chunk of each array, says of each row whether it holds.
        *arrays: Snapshots of equal length.

    Returns:
        `[n]`.
    """
    parts = [test(*chunks) for chunks in zip(*arrays, strict=True)]
    return np.concatenate([np.empty(0, dtype=np.bool_), *parts])

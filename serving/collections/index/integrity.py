"""Vectors that are mapped, not read: each block is compared with its checksum before it is first used."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from serving.errors import Unavailable

__all__ = ["VectorGuard", "block_checksums", "rows_a_block"]

_BLOCK_BYTES = 32_768


def rows_a_block(dimension: int) -> int:
    """Returns how many rows share a checksum: about 32 KiB, so that checking one row reads little beside it.

    Args:
        dimension: Width of the vectors.

    Returns:
        At least 1.
    """
    return max(1, _BLOCK_BYTES // (4 * dimension))


def block_checksums(vectors: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Returns the CRC-32 of each block of rows.

    Args:
        vectors: `[n, d]`, C order; possibly mapped.

    Returns:
        `[ceil(n / rows_a_block(d))]`.
    """
    step = rows_a_block(vectors.shape[1])
    blocks = (vectors[start : start + step] for start in range(0, len(vectors), step))
    return np.fromiter((zlib.crc32(block.data) for block in blocks), dtype=np.uint32)


class VectorGuard:
    """Remembers which blocks of one base's vectors are known to be whole; calls may come from any thread.

    Args:
        vectors: `[n, d]`, mapped.
        checksums: From `block_checksums`.
    """

    def __init__(self, vectors: NDArray[np.float32], checksums: NDArray[np.uint32]) -> None:
        self._vectors = vectors
        self._checksums = checksums
        self._step = rows_a_block(vectors.shape[1])
        self._whole = np.zeros(len(checksums), dtype=np.bool_)
        self._is_whole = False
        self._damaged_row: int | None = None
        self._telling = threading.Lock()
        self.on_damage: Callable[[], None] = lambda: None
        """Called once, from whatever thread finds the first damaged block."""

    @property
    def is_whole(self) -> bool:
        """Whether every block was compared and agreed."""
        return self._is_whole

    def trust(self) -> None:
        """Takes all blocks as whole: they were written by this process, just now."""
        self._is_whole = True

    def check(self, rows: NDArray[np.int64]) -> None:
        """Makes sure of the blocks of some rows.

        Args:
            rows: Row numbers, in any order.

        Raises:
            Unavailable: A block, of these or checked before, is not what was written.
        """
        if not self._is_whole:
            self._check_blocks(np.unique(rows // self._step))

    def check_range(self, start: int, end: int) -> None:
        """Makes sure of the blocks of a range of rows.

        Args:
            start: First row.
            end: The row after the last.

        Raises:
            Unavailable: A block, of these or checked before, is not what was written.
        """
        if not self._is_whole:
            self._check_blocks(np.arange(start // self._step, -(-min(end, len(self._vectors)) // self._step)))

    def check_all(self) -> Iterator[int]:
        """Makes sure of every block, in order.

        Yields:
            Bytes that were read, block by block, so that the caller sets the pace.

        Raises:
            Unavailable: A block is not what was written.
        """
        for block in range(len(self._checksums)):
            self._check_blocks(np.array([block]))
            yield 4 * self._step * self._vectors.shape[1]
        self._is_whole = True

    def _check_blocks(self, blocks: NDArray[np.int64]) -> None:
        if self._damaged_row is None:
            for block in blocks[~self._whole[blocks]].tolist():
                start = block * self._step
                if zlib.crc32(self._vectors[start : start + self._step].data) != self._checksums[block]:
                    self._damaged_row = start
                    break
                self._whole[block] = True
        if self._damaged_row is not None:
            self._tell()
            raise Unavailable(
                "the index is damaged and is being read anew from the record; try again in a moment",
                damaged_row=self._damaged_row,
            )

    def _tell(self) -> None:
        with self._telling:
            tell, self.on_damage = self.on_damage, lambda: None
        tell()

"""Rows that can be scanned: vectors with the keys, versions and ids of their records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serving.collections.index.integrity import VectorGuard

__all__ = ["Ids", "PackedIds", "Rows"]


class Ids(Protocol):
    """External ids by row."""

    def __getitem__(self, row: int, /) -> str: ...


class PackedIds:
    """External ids in one blob, mapped from a file or in memory.

    Args:
        blob: `[b]` uint8, the ids' UTF-8 bytes, one after the other.
        ends: `[n]` int64, where each ends.
    """

    def __init__(self, blob: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self._blob = blob
        self._ends = ends

    def __getitem__(self, row: int, /) -> str:
        start = int(self._ends[row - 1]) if row else 0
        return self._blob[start : int(self._ends[row])].tobytes().decode("utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Some records of one collection, keys ascending. All but `versions` never changes once it is here."""

    vectors: NDArray[np.float32]
    """`[n, d]`, possibly mapped from a file."""
    sq_norms: NDArray[np.float32]
    """`[n]`."""
    keys: NDArray[np.int64]
    """`[n]`: the sequence that wrote each vector."""
    versions: NDArray[np.int64]
    """`[n]`: follows metadata-only updates in place, so that a hit carries its record's latest version."""
    ids: Ids
    alive: NDArray[np.bool_] | None
    """`[n]`: which records are neither deleted nor overwritten; `None`: all."""
    guard: VectorGuard | None = None
    """Compares mapped vectors with their checksums before they are used; `None`: they are in memory."""

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def alive_count(self) -> int:
        """Records that are neither deleted nor overwritten."""
        return len(self.keys) if self.alive is None else int(np.count_nonzero(self.alive))

    def check(self, rows: NDArray[np.int64]) -> None:
        """Makes sure that the vectors of some rows are what was written.

        Args:
            rows: Row numbers.

        Raises:
            Unavailable: They are not.
        """
        if self.guard is not None:
            self.guard.check(rows)

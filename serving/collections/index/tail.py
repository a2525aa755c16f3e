"""The newest records, searched exactly: blocks that are only ever appended to, and marks on those that are gone."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.collections.index.rows import Ids, Rows
from serving.collections.transaction import AddedVector

__all__ = ["Tail"]

_FIRST_ROWS = 256
_BLOCK_ROWS = 8_192
_LEAST_DEAD = 1_024


class _Block:
    """Up to `_BLOCK_ROWS` rows. Rows up to `count` never change, so a snapshot may share the arrays."""

    def __init__(self, dimension: int, capacity: int) -> None:
        self.count = 0
        self.dead_count = 0
        self.vectors = np.empty((capacity, dimension), dtype=np.float32)
        self.sq_norms = np.empty(capacity, dtype=np.float32)
        self.keys = np.empty(capacity, dtype=np.int64)
        self.versions = np.empty(capacity, dtype=np.int64)
        self.alive = np.ones(capacity, dtype=np.bool_)
        self.ids: list[str] = []
        self._snapshot: Rows | None = None

    def append(self, added: Sequence[AddedVector]) -> None:
        end = self.count + len(added)
        self._make_room(end)
        new = slice(self.count, end)
        self.vectors[new] = [item.vector for item in added]
        self.sq_norms[new] = np.einsum("rd,rd->r", self.vectors[new], self.vectors[new], dtype=np.float64)
        self.keys[new] = self.versions[new] = [item.key for item in added]
        self.ids += [item.id for item in added]
        self.count = end
        self._snapshot = None

    def row_of(self, key: int) -> int | None:
        row = int(np.searchsorted(self.keys[: self.count], key))
        return row if row < self.count and self.keys[row] == key else None

    def kill(self, row: int) -> None:
        if self.alive[row]:
            self.alive[row] = False
            self.dead_count += 1
            self._snapshot = None

    def snapshot(self) -> Rows:
        if self._snapshot is None:
            self._snapshot = Rows(
                vectors=self.vectors[: self.count],
                sq_norms=self.sq_norms[: self.count],
                keys=self.keys[: self.count],
                versions=self.versions[: self.count],
                ids=self.ids,
                alive=self.alive[: self.count].copy() if self.dead_count else None,
            )
        return self._snapshot

    def _make_room(self, row_count: int) -> None:
        capacity = len(self.keys)
        if row_count <= capacity:
            return
        capacity = min(_BLOCK_ROWS, max(4 * capacity, row_count))
        for name in ("vectors", "sq_norms", "keys", "versions", "alive"):
            old: NDArray[np.generic] = getattr(self, name)
            new = np.ones((capacity, *old.shape[1:]), dtype=old.dtype)
            new[: self.count] = old[: self.count]
            setattr(self, name, new)


class Tail:
    """Rows in the order they were written; changed by the writer's thread only, read through snapshots.

    Args:
        dimension: Width of the vectors.
    """

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._blocks: list[_Block] = []
        self._first_keys: list[int] = []

    @property
    def row_count(self) -> int:
        """Rows, dead ones included."""
        return sum(block.count for block in self._blocks)

    @property
    def alive_count(self) -> int:
        """Rows whose record stands."""
        return sum(block.count - block.dead_count for block in self._blocks)

    def keys(self) -> NDArray[np.int64]:
        """Returns the keys of all rows, dead ones included, ascending."""
        return np.concatenate([np.empty(0, dtype=np.int64), *(block.keys[: block.count] for block in self._blocks)])

    def row_of(self, key: int) -> int | None:
        """Returns a row's number through all blocks.

        Args:
            key: Of its vector.

        Returns:
            The number; `None` where it is not here.
        """
        number = bisect_right(self._first_keys, key) - 1
        row = None if number < 0 else self._blocks[number].row_of(key)
        # Every block but the last is full.
        return None if row is None else number * _BLOCK_ROWS + row

    def append(self, added: Sequence[AddedVector]) -> None:
        """Adds rows.

        Args:
            added: Keys ascending, all above those already here.
        """
        done = 0
        while done < len(added):
            if not self._blocks or self._blocks[-1].count == _BLOCK_ROWS:
                self._blocks.append(_Block(self._dimension, _BLOCK_ROWS if self._blocks else _FIRST_ROWS))
                self._first_keys.append(added[done].key)
            room = _BLOCK_ROWS - self._blocks[-1].count
            self._blocks[-1].append(added[done : done + room])
            done += room

    def kill(self, key: int) -> bool:
        """Marks a row as gone.

        Args:
            key: Of its vector.

        Returns:
            Whether it was here.
        """
        found = self._find(key)
        if found is None:
            return False
        block, row = found
        block.kill(row)
        return True

    def set_version(self, key: int, version: int) -> bool:
        """Notes that a record's metadata changed.

        Args:
            key: Of its vector.
            version: The record's new version.

        Returns:
            Whether it was here.
        """
        found = self._find(key)
        if found is None:
            return False
        block, row = found
        block.versions[row] = version
        return True

    def snapshot(self) -> tuple[Rows, ...]:
        """Returns the rows as they are now, whatever is written later."""
        return tuple(block.snapshot() for block in self._blocks)

    def wasteful(self) -> bool:
        """Says whether dead rows outnumber the living, so that copying the living pays."""
        dead = sum(block.dead_count for block in self._blocks)
        return dead > max(_LEAST_DEAD, self.alive_count)

    def living(self, *, after_key: int = 0, before: Sequence[Rows] = ()) -> Tail:
        """Returns a tail of the living rows alone.

        Args:
            after_key: Leaves out rows up to this key.
            before: Rows to put in front, keys below all those here.

        Returns:
            A new tail that shares nothing with this one.
        """
        tail = Tail(self._dimension)
        for rows in (*before, *self.snapshot()):
            keep = rows.keys > after_key
            if rows.alive is not None:
                keep &= rows.alive
            tail._copy(rows, np.flatnonzero(keep))
        return tail

    def _copy(self, rows: Rows, chosen: NDArray[np.int64]) -> None:
        rows.check(chosen)
        ids: Ids = rows.ids
        self.append([AddedVector(int(rows.keys[row]), ids[row], rows.vectors[row]) for row in chosen.tolist()])
        for row in np.flatnonzero(rows.versions[chosen] != rows.keys[chosen]):
            self.set_version(int(rows.keys[chosen[row]]), int(rows.versions[chosen[row]]))

    def _find(self, key: int) -> tuple[_Block, int] | None:
        number = bisect_right(self._first_keys, key) - 1
        if number < 0:
            return None
        row = self._blocks[number].row_of(key)
        return None if row is None else (self._blocks[number], row)

"""The index as the writer changes it: an immutable base, what is dead in it, and the tail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from serving.collections.columns.columns import Columns, places
from serving.collections.config import CollectionsConfig
from serving.collections.index.base import Base
from serving.collections.index.rows import Rows
from serving.collections.index.tail import Tail
from serving.collections.index.view import IndexView
from serving.collections.transaction import ChangedMetadata, IndexChanges
from serving.collections.types import CollectionSpec

__all__ = ["LiveIndex"]


class LiveIndex:
    """Follows the record commit by commit; changed by one thread, searched by any through `view`.

    Args:
        spec: The collection.
        sequence: What `base` and `tail` together have reached.
        base: The base; `None`: everything is in the tail.
        versions: `[n]`, the versions of the base's records; 0 where the record is gone.
        tail: Newer records.
        damaged: By key, the ids of records that cannot be searched.
        columns: The declared fields of the rows of base and tail.
        config: Search settings.
    """

    def __init__(
        self,
        spec: CollectionSpec,
        *,
        sequence: int,
        base: Base | None,
        versions: NDArray[np.int64] | None,
        tail: Tail,
        damaged: Mapping[int, str],
        columns: Columns,
        config: CollectionsConfig,
    ) -> None:
        self._spec = spec
        self._config = config
        self._sequence = sequence
        self._tail = tail
        self._damaged = dict(damaged)
        self._columns = columns
        self._base: Base | None = None
        self._alive = np.empty(0, dtype=np.bool_)
        self._base_view: tuple[Rows, NDArray[np.uint8] | None] | None = None
        self._set_base(base, versions)
        self.view = self._publish()
        """The last committed state."""

    @property
    def base_row_count(self) -> int:
        """Rows of the base, dead ones included."""
        return len(self._alive)

    @property
    def base(self) -> Base | None:
        """The base; `None`: everything is in the tail."""
        return self._base

    @property
    def tail_row_count(self) -> int:
        """Rows of the tail, dead ones included."""
        return self._tail.row_count

    def apply(self, changes: IndexChanges, sequence: int) -> None:
        """Takes over one commit and shows it to the next search.

        Args:
            changes: What the commit did.
            sequence: What it reached.
        """
        self._tail.append(changes.added)
        self._columns.append([item.metadata for item in changes.added])
        for change in changes.versions:
            self._change(change)
        self._remove(changes.removed)
        if self._tail.wasteful():
            self._pack_tail()
        self._sequence = sequence
        self.view = self._publish()

    def adopt(self, base: Base) -> None:
        """Swaps in a base built aside, and keeps of the tail what is newer.

        Args:
            base: Reached a sequence that this index has reached too.

        Raises:
            ValueError: It lacks a record, or holds one it cannot know.
        """
        keys, versions = self._living()
        old = keys <= base.sequence
        rows = places(base.rows.keys, keys[old])
        if np.any(rows < 0):
            raise ValueError(f"the base of sequence {base.sequence} lacks {int(np.sum(rows < 0))} records")
        base_versions = np.zeros(len(base.rows), dtype=np.int64)
        base_versions[rows] = versions[old]
        old_keys = self._row_keys()
        self._tail = self._tail.living(after_key=base.sequence)
        self._set_base(base, base_versions)
        self._arrange_columns(old_keys)
        self.view = self._publish()

    def drop_base(self) -> None:
        """Moves what lives in the base to the tail, where a shrunken collection is searched exactly."""
        view, old_keys = self.view, self._row_keys()
        if view.base is not None:
            self._tail = self._tail.living(before=(view.base,))
        self._set_base(None, None)
        self._arrange_columns(old_keys)
        self.view = self._publish()

    def declare(self, columns: Columns, keys: NDArray[np.int64]) -> None:
        """Adds fields, and shows them to the next search.

        Args:
            columns: Those fields of every record as of now, as rows of a tail.
            keys: `[n]`, the records of those rows, ascending.
        """
        base_keys = np.empty(0, dtype=np.int64) if self._base is None else self._base.rows.keys
        columns.arrange(places(keys, base_keys), places(keys, self._tail.keys()))
        self._columns.take_over(columns)
        self.view = self._publish()

    def keep_fields(self, names: Iterable[str]) -> None:
        """Drops all other fields.

        Args:
            names: Those that stay.
        """
        self._columns.keep(names)
        self.view = self._publish()

    def drop_index(self) -> None:
        """Keeps the base's rows and compares them one by one: their index is damaged."""
        if self._base is not None:
            self._base = replace(self._base, graph=None)
            self.view = self._publish()

    def mark_damaged(self, key: int, identifier: str) -> None:
        """Takes a record out of search, and searches out of service until it is written anew or deleted.

        Args:
            key: Of its vector.
            identifier: Its id, for messages.
        """
        self._remove([key])
        self._damaged[key] = identifier
        self.view = self._publish()

    def _row_keys(self) -> NDArray[np.int64]:
        """Returns the keys of all rows of base and tail, dead ones included, ascending."""
        tail = self._tail.keys()
        return tail if self._base is None else np.concatenate((self._base.rows.keys, tail))

    def _arrange_columns(self, old_keys: NDArray[np.int64]) -> None:
        base_keys = np.empty(0, dtype=np.int64) if self._base is None else self._base.rows.keys
        self._columns.arrange(places(old_keys, base_keys), places(old_keys, self._tail.keys()))

    def _pack_tail(self) -> None:
        old_keys = self._tail.keys()
        self._tail = self._tail.living()
        self._columns.arrange_tail(places(old_keys, self._tail.keys()))

    def _change(self, change: ChangedMetadata) -> None:
        row = self._tail.row_of(change.key)
        if row is not None:
            self._tail.set_version(change.key, change.version)
            self._columns.replace_in_tail(row, change.metadata)
            return
        row = self._base_row(change.key)
        if self._base is not None and row is not None:
            self._base.rows.versions[row] = change.version
            self._columns.replace_in_base(row, change.metadata)

    def _set_base(self, base: Base | None, versions: NDArray[np.int64] | None) -> None:
        self._base = base
        self._base_view = None
        if base is None or versions is None:
            self._alive = np.empty(0, dtype=np.bool_)
            return
        base.rows.versions[:] = versions
        self._alive = versions > 0

    def _living(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns the keys, ascending, and versions of all records that can be searched."""
        parts = [part for part in (self.view.base, *self.view.tail) if part is not None]
        keys = [part.keys if part.alive is None else part.keys[part.alive] for part in parts]
        versions = [part.versions if part.alive is None else part.versions[part.alive] for part in parts]
        empty = np.empty(0, dtype=np.int64)
        return np.concatenate([empty, *keys]), np.concatenate([empty, *versions])

    def _remove(self, keys: Sequence[int]) -> None:
        for key in keys:
            if self._damaged.pop(key, None) is None and not self._tail.kill(key):
                self._kill_in_base(key)

    def _kill_in_base(self, key: int) -> None:
        row = self._base_row(key)
        if row is not None and self._alive[row]:
            self._alive[row] = False
            self._base_view = None

    def _base_row(self, key: int) -> int | None:
        if self._base is None:
            return None
        keys = self._base.rows.keys
        row = int(np.searchsorted(keys, key))
        return row if row < len(keys) and keys[row] == key else None

    def _publish(self) -> IndexView:
        base, bits = self._base_snapshot()
        return IndexView(
            metric=self._spec.metric,
            sequence=self._sequence,
            base=base,
            graph=self._base.graph if self._base is not None else None,
            base_bits=bits,
            base_alive_count=base.alive_count if base is not None else 0,
            tail=self._tail.snapshot(),
            tail_alive_count=self._tail.alive_count,
            damaged=tuple(self._damaged.values()),
            columns=self._columns.view(),
            scan_ratio=self._config.filter_scan_ratio,
        )

    def _base_snapshot(self) -> tuple[Rows | None, NDArray[np.uint8] | None]:
        if self._base is None:
            return None, None
        if self._base_view is None:
            rows = self._base.rows
            alive = None if self._alive.all() else self._alive.copy()
            marked = Rows(
                vectors=rows.vectors,
                sq_norms=rows.sq_norms,
                keys=rows.keys,
                versions=rows.versions,
                ids=rows.ids,
                alive=alive,
                guard=rows.guard,
            )
            self._base_view = (marked, None if alive is None else np.packbits(alive, bitorder="little"))
        return self._base_view

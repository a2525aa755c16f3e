"""What the writer does to the tables inside one transaction, and what the index must learn once it is committed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import apsw
import numpy as np
from numpy.typing import NDArray

from serving.collections.record_codec import RecordRow, record_checksum, source_checksum
from serving.collections.types import MetadataValue
from serving.collections.validation import PreparedWrite

__all__ = ["AddedVector", "ChangedMetadata", "IndexChanges", "RecordTransaction", "StoredRecord"]

_NOTHING: Mapping[str, MetadataValue] = MappingProxyType({})

_PUT = (
    "INSERT INTO records (key, id, version, vector, metadata, fingerprint, checksum, expire_us) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_FIND = (
    "SELECT r.id, r.key, r.version, r.expire_us FROM carray(?) AS wanted CROSS JOIN records AS r ON r.id = wanted.value"
)
_FIND_KEYS = (
    "SELECT r.key, r.version, r.expire_us FROM carray(?) AS wanted CROSS JOIN records AS r ON r.key = wanted.value"
)


class StoredRecord(NamedTuple):
    """Where a record stands, and until when."""

    key: int
    version: int
    expire_us: int | None = None
    """Microseconds since 1970 from which on it is no more."""


class AddedVector(NamedTuple):
    """A vector the index must learn."""

    key: int
    id: str
    vector: NDArray[np.float32]
    metadata: Mapping[str, MetadataValue] = _NOTHING


class ChangedMetadata(NamedTuple):
    """A record whose metadata alone changed."""

    key: int
    version: int
    metadata: Mapping[str, MetadataValue] = _NOTHING


@dataclass(slots=True)
class IndexChanges:
    """What one transaction means to the index; keys are never used twice, so the parts may be applied in this order."""

    added: list[AddedVector] = field(default_factory=list)
    versions: list[ChangedMetadata] = field(default_factory=list)
    """Records whose metadata alone changed."""
    removed: list[int] = field(default_factory=list)
    """Keys that are no more."""
    expiring: list[tuple[int, int]] = field(default_factory=list)
    """Of those added that expire: when, in microseconds, and the key."""
    unexpiring: list[int] = field(default_factory=list)
    """Those of `removed` that were to expire."""

    def mark(self) -> tuple[int, ...]:
        """Returns a point to which `rewind` goes back."""
        return tuple(len(changes) for changes in self._lists())

    def rewind(self, mark: tuple[int, ...]) -> None:
        """Forgets what came after a point.

        Args:
            mark: From `mark`.
        """
        for changes, length in zip(self._lists(), mark, strict=True):
            del changes[length:]

    def _lists(self) -> tuple[list[Any], ...]:
        return self.added, self.versions, self.removed, self.expiring, self.unexpiring


class RecordTransaction:
    """Writes records under consecutive sequences; used by the writer thread only.

    Args:
        connection: The writer's, in a transaction.
        sequence: Sequence of the last committed write.
        now_us: Time of all that happens in it, in microseconds since 1970.
    """

    def __init__(self, connection: apsw.Connection, sequence: int, *, now_us: int) -> None:
        self.connection = connection
        self.now_us = now_us
        self.sequence = sequence
        """Of the last write in this transaction."""
        self.changes = IndexChanges()

    def find(self, ids: Iterable[bytes]) -> dict[bytes, StoredRecord]:
        """Returns where records stand, this transaction's own writes included, and those that have expired.

        Args:
            ids: Of the records.

        Returns:
            By id; absent where there is no such record.
        """
        wanted = tuple(ids)
        if not wanted:
            return {}
        rows = cast("Iterable[tuple[Any, ...]]", self.connection.execute(_FIND, (apsw.carray(wanted),)))
        return {identifier: StoredRecord(*standing) for identifier, *standing in rows}

    def find_keys(self, keys: Iterable[int]) -> list[StoredRecord]:
        """Returns where records stand, those that have expired among them.

        Args:
            keys: Of the records.

        Returns:
            In the order of the keys; those that are no more are left out.
        """
        wanted = np.fromiter(keys, dtype=np.int64)
        if not len(wanted):
            return []
        rows = self.connection.execute(_FIND_KEYS, (apsw.carray(wanted),))
        return [StoredRecord._make(row) for row in cast("Iterable[Sequence[int]]", rows)]

    def put(self, writes: Sequence[PreparedWrite], stored: dict[bytes, StoredRecord]) -> list[int]:
        """Writes records, in place of those of the same id.

        Args:
            writes: Checked records, each id once.
            stored: From `find`, for their ids.

        Returns:
            The new versions, in order.
        """
        self._drop([stored[write.id] for write in writes if write.id in stored])
        first = self.sequence + 1
        self.sequence += len(writes)
        rows = [_row(key, write) for key, write in enumerate(writes, first)]
        self.connection.executemany(_PUT, rows)
        self._put_sources(first, writes)
        self.changes.added += [
            AddedVector(row.key, row.id.decode("utf-8"), write.vector, write.values)
            for row, write in zip(rows, writes, strict=True)
        ]
        self.changes.expiring += [(row.expire_us, row.key) for row in rows if row.expire_us is not None]
        return [row.version for row in rows]

    def put_metadata(self, stored: StoredRecord, metadata: bytes, values: Mapping[str, MetadataValue]) -> int:
        """Replaces a record's metadata; its vector stays where it is.

        Args:
            stored: From `find`.
            metadata: Encoded.
            values: The same, as the columns take it.

        Returns:
            The new version.
        """
        columns = "key, id, version, vector, metadata, fingerprint, checksum, expire_us"
        found = self.connection.execute(f"SELECT {columns} FROM records WHERE key = ?", (stored.key,))
        row = RecordRow._make(cast("Sequence[bytes]", next(iter(found))))
        self.sequence += 1
        row = row._replace(version=self.sequence, metadata=metadata)
        self.connection.execute(
            "UPDATE records SET version = ?, metadata = ?, checksum = ? WHERE key = ?",
            (row.version, metadata, record_checksum(row), row.key),
        )
        self.changes.versions.append(ChangedMetadata(row.key, row.version, values))
        return row.version

    def remove(self, stored: Sequence[StoredRecord]) -> list[int]:
        """Deletes records.

        Args:
            stored: From `find`.

        Returns:
            The sequence of each deletion.
        """
        self._drop(stored)
        first = self.sequence + 1
        self.sequence += len(stored)
        return list(range(first, self.sequence + 1))

    def _drop(self, stored: Sequence[StoredRecord]) -> None:
        keys = [record.key for record in stored]
        if keys:
            self.connection.executemany("DELETE FROM records WHERE key = ?", ((key,) for key in keys))
            self.connection.executemany("DELETE FROM sources WHERE key = ?", ((key,) for key in keys))
            self.changes.removed += keys
            self.changes.unexpiring += [record.key for record in stored if record.expire_us is not None]

    def _put_sources(self, first: int, writes: Sequence[PreparedWrite]) -> None:
        self.connection.executemany(
            "INSERT INTO sources (key, type, content, checksum) VALUES (?, ?, ?, ?)",
            [
                (key, write.source_type, write.source, source_checksum(key, write.source_type, write.source))
                for key, write in enumerate(writes, first)
                if write.source is not None
            ],
        )


def _row(key: int, write: PreparedWrite) -> RecordRow:
    row = RecordRow(
        key=key,
        id=write.id,
        version=key,
        vector=write.vector.astype("<f4", copy=False).tobytes(),
        metadata=write.metadata,
        fingerprint=write.fingerprint,
        checksum=0,
        expire_us=write.expire_us,
    )
    return row._replace(checksum=record_checksum(row))

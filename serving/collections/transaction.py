"""What the writer does to the tables inside one transaction, and what the index must learn once it is committed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, cast

import apsw
import numpy as np
from numpy.typing import NDArray

from serving.collections.record_codec import RecordRow, record_checksum, source_checksum
from serving.collections.types import MetadataValue
from serving.collections.validation import PreparedWrite

__all__ = ["AddedVector", "ChangedMetadata", "IndexChanges", "RecordTransaction", "StoredVersion"]

_NOTHING: Mapping[str, MetadataValue] = MappingProxyType({})

_PUT = "INSERT INTO records (key, id, version, vector, metadata, fingerprint, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)"
_FIND = "SELECT r.id, r.key, r.version FROM carray(?) AS wanted CROSS JOIN records AS r ON r.id = wanted.value"


class StoredVersion(NamedTuple):
    """Where a record stands."""

    key: int
    version: int


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

    def mark(self) -> tuple[int, int, int]:
        """Returns a point to which `rewind` goes back."""
        return len(self.added), len(self.versions), len(self.removed)

    def rewind(self, mark: tuple[int, int, int]) -> None:
        """Forgets what came after a point.

        Args:
            mark: From `mark`.
        """
        del self.added[mark[0] :], self.versions[mark[1] :], self.removed[mark[2] :]


class RecordTransaction:
    """Writes records under consecutive sequences; used by the writer thread only.

    Args:
        connection: The writer's, in a transaction.
        sequence: Sequence of the last committed write.
    """

    def __init__(self, connection: apsw.Connection, sequence: int) -> None:
        self.connection = connection
        self.sequence = sequence
        """Of the last write in this transaction."""
        self.changes = IndexChanges()

    def find(self, ids: Iterable[bytes]) -> dict[bytes, StoredVersion]:
        """Returns where records stand, this transaction's own writes included.

        Args:
            ids: Of the records.

        Returns:
            By id; absent where there is no such record.
        """
        wanted = tuple(ids)
        if not wanted:
            return {}
        rows = cast("Iterable[tuple[bytes, int, int]]", self.connection.execute(_FIND, (apsw.carray(wanted),)))
        return {identifier: StoredVersion(key, version) for identifier, key, version in rows}

    def put(self, writes: Sequence[PreparedWrite], stored: dict[bytes, StoredVersion]) -> list[int]:
        """Writes records, in place of those of the same id.

        Args:
            writes: Checked records, each id once.
            stored: From `find`, for their ids.

        Returns:
            The new versions, in order.
        """
        self._drop([stored[write.id].key for write in writes if write.id in stored])
        first = self.sequence + 1
        self.sequence += len(writes)
        rows = [_row(key, write) for key, write in enumerate(writes, first)]
        self.connection.executemany(_PUT, rows)
        self._put_sources(first, writes)
        self.changes.added += [
            AddedVector(row.key, row.id.decode("utf-8"), write.vector, write.values)
            for row, write in zip(rows, writes, strict=True)
        ]
        return [row.version for row in rows]

    def put_metadata(self, stored: StoredVersion, metadata: bytes, values: Mapping[str, MetadataValue]) -> int:
        """Replaces a record's metadata; its vector stays where it is.

        Args:
            stored: From `find`.
            metadata: Encoded.
            values: The same, as the columns take it.

        Returns:
            The new version.
        """
        columns = "key, id, version, vector, metadata, fingerprint, checksum"
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

    def remove(self, stored: Sequence[StoredVersion]) -> list[int]:
        """Deletes records.

        Args:
            stored: From `find`.

        Returns:
            The sequence of each deletion.
        """
        self._drop([record.key for record in stored])
        first = self.sequence + 1
        self.sequence += len(stored)
        return list(range(first, self.sequence + 1))

    def _drop(self, keys: Sequence[int]) -> None:
        if keys:
            self.connection.executemany("DELETE FROM records WHERE key = ?", ((key,) for key in keys))
            self.connection.executemany("DELETE FROM sources WHERE key = ?", ((key,) for key in keys))
            self.changes.removed += keys

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
    )
    return row._replace(checksum=record_checksum(row))

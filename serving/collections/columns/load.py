"""Columns from the record: one scan of all records at start, or when a field is declared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from serving.collections.columns.columns import Columns, places
from serving.collections.filters.fields import contradiction
from serving.collections.metadata_codec import decode_fields
from serving.collections.record_codec import RecordRow, record_checksum
from serving.collections.types import FieldDefinition, MetadataValue
from serving.errors import Corrupted, FailedPrecondition

__all__ = ["ColumnScan"]

_BATCH_ROWS = 1_024


class ColumnScan:
    """Reads what records say for some fields, in the order of their keys.

    Args:
        fields: What to read.
        declaring: Whether the fields are new: then a record that contradicts one is refused, and a damaged one too.
    """

    def __init__(self, fields: Sequence[FieldDefinition], *, declaring: bool = False) -> None:
        self._fields = fields
        self._names = [field.name for field in fields]
        self._declaring = declaring
        self._keys: list[int] = []
        self.columns = Columns(fields)
        """What was read, as rows of a tail."""
        self.damaged: dict[int, str] = {}
        """By key, the ids of records that do not match their checksums, and have no row."""

    @property
    def keys(self) -> NDArray[np.int64]:
        """`[n]`: the records of the rows, ascending."""
        return np.array(self._keys, dtype=np.int64)

    def read(self, rows: Iterable[RecordRow]) -> None:
        """Adds records.

        Args:
            rows: As stored, keys ascending, all above those read before.

        Raises:
            FailedPrecondition: One contradicts a field that is being declared.
            Corrupted: One is damaged while a field is being declared.
        """
        for batch in _batches(iter(rows)):
            good = self._undamaged(batch)
            self.columns.append(self._values(good))
            self._keys += [row.key for row in good]

    def catch_up(self, rows: Iterable[RecordRow]) -> None:
        """Takes over what was written since the records were read.

        Args:
            rows: New records, and known ones whose metadata changed; keys ascending.

        Raises:
            FailedPrecondition: As in `read`.
            Corrupted: As in `read`.
        """
        for batch in _batches(iter(rows)):
            good = self._undamaged(batch)
            known = places(self.keys, np.array([row.key for row in good], dtype=np.int64)).tolist()
            values = self._values(good)
            for row, metadata in zip(known, values, strict=True):
                if row >= 0:
                    self.columns.replace_in_tail(row, metadata)
            new = [number for number, row in enumerate(known) if row < 0]
            self.columns.append([values[number] for number in new])
            self._keys += [good[number].key for number in new]

    def _undamaged(self, rows: Sequence[RecordRow]) -> list[RecordRow]:
        good = []
        for row in rows:
            if record_checksum(row) == row.checksum:
                good.append(row)
                continue
            name = row.id.decode("utf-8", "replace")
            if self._declaring:
                raise Corrupted(
                    f"record {name!r} does not match its checksum; delete it or write it anew, then declare the field",
                    record_id=name,
                )
            self.damaged[row.key] = name
        return good

    def _values(self, rows: Sequence[RecordRow]) -> list[dict[str, MetadataValue]]:
        values = decode_fields([row.metadata for row in rows], self._names)
        if self._declaring:
            for row, metadata in zip(rows, values, strict=True):
                self._check(row, metadata)
        return values

    def _check(self, row: RecordRow, metadata: Mapping[str, MetadataValue]) -> None:
        error = contradiction(self._fields, metadata)
        if error is not None:
            name = row.id.decode("utf-8")
            raise FailedPrecondition(
                f"the field cannot be declared, for a record contradicts it: of record {name!r}, {error.message}",
                record_id=name,
                **error.metadata,
            )


def _batches(rows: Iterator[RecordRow]) -> Iterator[list[RecordRow]]:
    while batch := list(islice(rows, _BATCH_ROWS)):
        yield batch

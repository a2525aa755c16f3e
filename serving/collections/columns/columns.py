"""The declared fields of one collection, row by row beside its index: the base's rows, and the tail's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from serving.collections.columns.column import Column, ColumnView, FixedColumn
from serving.collections.columns.dictionary import Dictionary
from serving.collections.columns.lists import ListColumn
from serving.collections.types import FieldDefinition, FieldType, MetadataValue

__all__ = ["Columns", "ColumnsView", "FieldView", "new_column", "places", "to_microseconds"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_KEPT_VALUES = 4_096


def to_microseconds(moment: datetime) -> int:
    """Returns a point in time as a number.

    Args:
        moment: With a time zone.

    Returns:
        Microseconds since 1970-01-01 UTC.
    """
    return (moment - _EPOCH) // _MICROSECOND


def places(old_keys: NDArray[np.int64], new_keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns where records stood before rows were rearranged.

    Args:
        old_keys: `[m]`, ascending.
        new_keys: `[n]`.

    Returns:
        `[n]` indices of `old_keys`; -1 where a key is not there.
    """
    rows = np.searchsorted(old_keys, new_keys)
    known = rows < len(old_keys)
    known[known] = old_keys[rows[known]] == new_keys[known]
    return np.where(known, rows, -1)


def new_column(kind: FieldType, dictionary: Dictionary) -> Column:
    """Returns an empty column.

    Args:
        kind: What it holds.
        dictionary: Numbers the strings of its field.

    Returns:
        The column.
    """
    match kind:
        case FieldType.STRING:
            return FixedColumn(np.int32, dictionary.encode, dictionary=dictionary)
        case FieldType.STRING_LIST:
            return ListColumn(dictionary)
        case FieldType.INTEGER:
            return FixedColumn(np.int64, list)
        case FieldType.FLOAT:
            return FixedColumn(np.float64, list)
        case FieldType.BOOL:
            return FixedColumn(np.bool_, list)
        case FieldType.TIMESTAMP:
            return FixedColumn(np.int64, lambda moments: [to_microseconds(moment) for moment in moments])
        case FieldType.GEO_POINT:
            return FixedColumn(
                np.float64, lambda places: [(p.latitude_deg, p.longitude_deg) for p in places], shape=(2,)
            )


@dataclass(frozen=True, slots=True)
class FieldView:
    """One field as of one commit."""

    type: FieldType
    dictionary: Dictionary
    base: ColumnView
    tail: ColumnView


@dataclass(frozen=True, slots=True)
class ColumnsView:
    """All fields as of one commit."""

    definitions: tuple[FieldDefinition, ...]
    fields: Mapping[str, FieldView]
    """By name."""


class _Field:
    """One field: a column beside the base's rows, one beside the tail's, and the dictionary of both."""

    def __init__(self, kind: FieldType, dictionary: Dictionary | None = None) -> None:
        self.type = kind
        self.dictionary = Dictionary() if dictionary is None else dictionary
        self.base = new_column(kind, self.dictionary)
        self.tail = new_column(kind, self.dictionary)

    def view(self) -> FieldView:
        return FieldView(self.type, self.dictionary, self.base.snapshot(), self.tail.snapshot())

    def arrange(self, base_rows: NDArray[np.int64], tail_rows: NDArray[np.int64]) -> None:
        both = new_column(self.type, self.dictionary)
        both.add_rows(self.base, np.arange(self.base.count))
        both.add_rows(self.tail, np.arange(self.tail.count))
        self.base, self.tail = (new_column(self.type, self.dictionary) for _ in range(2))
        self.base.add_rows(both, base_rows)
        self.tail.add_rows(both, tail_rows)

    def arrange_tail(self, rows: NDArray[np.int64]) -> None:
        old, self.tail = self.tail, new_column(self.type, self.dictionary)
        self.tail.add_rows(old, rows)

    def packed(self) -> _Field:
        """Returns the field without what was kept of values that are gone; itself where that is little."""
        used, held = map(sum, zip(self.base.storage(), self.tail.storage(), strict=True))
        if max(held, len(self.dictionary)) <= 2 * used + _KEPT_VALUES:
            return self
        new = _Field(self.type)
        new.base.add_rows(self.base, np.arange(self.base.count))
        new.tail.add_rows(self.tail, np.arange(self.tail.count))
        return new


class Columns:
    """Follows the index row by row; changed by the writer's thread only, read through views.

    Args:
        definitions: The declared fields.
    """

    def __init__(self, definitions: Iterable[FieldDefinition]) -> None:
        self.definitions = tuple(definitions)
        """The declared fields."""
        self._fields = {definition.name: _Field(definition.type) for definition in self.definitions}

    def append(self, metadata: Sequence[Mapping[str, MetadataValue]]) -> None:
        """Adds rows at the end of the tail.

        Args:
            metadata: Per record; values of declared fields are of their types.
        """
        for name, field in self._fields.items():
            field.tail.append([values.get(name) for values in metadata])

    def replace_in_base(self, row: int, metadata: Mapping[str, MetadataValue]) -> None:
        """Changes what is known of a row of the base.

        Args:
            row: Its number.
            metadata: As for `append`.
        """
        for name, field in self._fields.items():
            field.base.replace(row, metadata.get(name))

    def replace_in_tail(self, row: int, metadata: Mapping[str, MetadataValue]) -> None:
        """Changes what is known of a row of the tail.

        Args:
            row: Its number.
            metadata: As for `append`.
        """
        for name, field in self._fields.items():
            field.tail.replace(row, metadata.get(name))

    def arrange(self, base_rows: NDArray[np.int64], tail_rows: NDArray[np.int64]) -> None:
        """Follows an index whose base was swapped.

        Args:
            base_rows: Per row of the new base its old number through base and tail; -1 where it had none.
            tail_rows: The same for the new tail.
        """
        for field in self._fields.values():
            field.arrange(base_rows, tail_rows)

    def arrange_tail(self, rows: NDArray[np.int64]) -> None:
        """Follows an index whose tail was packed.

        Args:
            rows: Per row of the new tail its number in the old.
        """
        for field in self._fields.values():
            field.arrange_tail(rows)

    def take_over(self, other: Columns) -> None:
        """Adds the fields of other columns.

        Args:
            other: Of the same rows; has no use afterwards.
        """
        self.definitions += other.definitions
        self._fields |= other._fields

    def keep(self, names: Iterable[str]) -> None:
        """Drops all other fields.

        Args:
            names: Those that stay.
        """
        kept = set(names)
        self.definitions = tuple(field for field in self.definitions if field.name in kept)
        self._fields = {name: field for name, field in self._fields.items() if name in kept}

    def view(self) -> ColumnsView:
        """Returns all columns as they are now, whatever is written later."""
        self._fields = {name: field.packed() for name, field in self._fields.items()}
        return ColumnsView(self.definitions, {name: field.view() for name, field in self._fields.items()})

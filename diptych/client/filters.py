"""Filters as Python writes them: `field("price").between(1, 5) & ~(field("tag") == "x")`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from diptych.client.metadata import write_value
from diptych.client.types import GeoPoint, MetadataValue
from diptych.v1 import collection_pb2, filter_pb2, metadata_pb2

__all__ = ["FIELD_TYPES", "Field", "Filter", "field", "fields_message"]

FIELD_TYPES = {
    name.removeprefix("FIELD_TYPE_").lower(): value
    for name, value in collection_pb2.FieldType.items()
    if value != collection_pb2.FIELD_TYPE_UNSPECIFIED
}
"""Types that a collection may declare of a field: string, integer, float, bool, timestamp, string_list, geo_point."""


def fields_message(fields: Mapping[str, str]) -> list[collection_pb2.FieldDefinition]:
    """Writes declared fields for the wire.

    Args:
        fields: Type by name.

    Returns:
        The messages.

    Raises:
        ValueError: A type is none that there is.
    """
    for name, kind in fields.items():
        if kind not in FIELD_TYPES:
            raise ValueError(f"the type of field {name!r} ({kind!r}) must be one of {', '.join(FIELD_TYPES)}")
    return [collection_pb2.FieldDefinition(name=name, type=FIELD_TYPES[kind]) for name, kind in fields.items()]


class Filter:
    """A condition on records' metadata; combined with `&`, `|` and `~`.

    Args:
        message: As the wire has it.
    """

    def __init__(self, message: filter_pb2.Filter) -> None:
        self.message = message

    def __and__(self, other: Filter) -> Filter:
        return Filter(filter_pb2.Filter(all_of=_joined("all_of", self, other)))

    def __or__(self, other: Filter) -> Filter:
        return Filter(filter_pb2.Filter(any_of=_joined("any_of", self, other)))

    def __invert__(self) -> Filter:
        return Filter(filter_pb2.Filter(negation=self.message))

    def __bool__(self) -> bool:
        # `and`, `or`, `not` and `1 < field < 5` would silently drop half of the filter.
        raise TypeError("a filter is neither true nor false: join filters with &, | and ~, bounds with between()")

    def __repr__(self) -> str:
        return f"Filter({self.message!s})"


def _joined(kind: str, one: Filter, other: Filter) -> filter_pb2.FilterList:
    """Joins two filters; what is joined the same way already stays flat."""
    parts: list[filter_pb2.Filter] = []
    for message in (one.message, other.message):
        flat = message.WhichOneof("condition") == kind
        parts += getattr(message, kind).filters if flat else [message]
    return filter_pb2.FilterList(filters=parts)


class Field:
    """A declared field, of which conditions are asked; from `field`.

    Args:
        name: As declared.
    """

    # Equality builds a filter, so that fields cannot be told apart and are no keys.
    __hash__ = None  # type: ignore[assignment] # as Python spells unhashable

    def __init__(self, name: str) -> None:
        self._name = name

    def __eq__(self, value: object) -> Filter:  # type: ignore[override] # builds a filter, as the other comparisons do
        return Filter(
            filter_pb2.Filter(equals=filter_pb2.EqualsFilter(field=self._name, value=_value(self._name, value)))
        )

    def __ne__(self, value: object) -> Filter:  # type: ignore[override] # as above
        return ~(self == value)

    def __ge__(self, bound: MetadataValue) -> Filter:
        return self._range(greater_or_equal=bound)

    def __gt__(self, bound: MetadataValue) -> Filter:
        return self._range(greater=bound)

    def __le__(self, bound: MetadataValue) -> Filter:
        return self._range(less_or_equal=bound)

    def __lt__(self, bound: MetadataValue) -> Filter:
        return self._range(less=bound)

    def between(self, least: MetadataValue, most: MetadataValue) -> Filter:
        """Holds where the field is an integer, float or time between two bounds, both inclusive."""
        return self._range(greater_or_equal=least, less_or_equal=most)

    def contains(self, text: str) -> Filter:
        """Holds where the field is a list of strings that contains one."""
        return self == text

    def one_of(self, values: Iterable[MetadataValue]) -> Filter:
        """Holds where the field equals one of several values, or is a list of strings that contains one of them.

        Args:
            values: At least one.

        Returns:
            The filter.

        Raises:
            ValueError: There is none, or a string instead of a list.
        """
        chosen = [] if isinstance(values, str) else list(values)
        if not chosen:
            raise ValueError(f"field {self._name!r}: one_of takes a list of at least one value")
        wanted = filter_pb2.InFilter(field=self._name, values=[_value(self._name, value) for value in chosen])
        return Filter(filter_pb2.Filter(one_of=wanted))

    def startswith(self, prefix: str) -> Filter:
        """Holds where the field is a string that begins with another."""
        return Filter(filter_pb2.Filter(prefix=filter_pb2.PrefixFilter(field=self._name, prefix=prefix)))

    def exists(self) -> Filter:
        """Holds where the record has the field."""
        return Filter(filter_pb2.Filter(exists=self._name))

    def within(self, centre: GeoPoint, radius_m: float) -> Filter:
        """Holds where the field is a place at most so many metres from another."""
        place = metadata_pb2.GeoPoint(latitude_deg=centre.latitude_deg, longitude_deg=centre.longitude_deg)
        radius = filter_pb2.GeoRadiusFilter(field=self._name, centre=place, radius_m=radius_m)
        return Filter(filter_pb2.Filter(geo_radius=radius))

    def _range(self, **bounds: MetadataValue) -> Filter:
        written = {name: _value(self._name, bound) for name, bound in bounds.items()}
        return Filter(filter_pb2.Filter(range=filter_pb2.RangeFilter(field=self._name, **written)))


def field(name: str) -> Field:
    """Returns a declared field, to be asked for conditions.

    Args:
        name: As declared.

    Returns:
        The field.
    """
    return Field(name)


def _value(name: str, value: object) -> metadata_pb2.MetadataValue:
    message = metadata_pb2.MetadataValue()
    write_value(message, f"the value that field '{name}' is compared with", value)
    return message

"""What a filter may ask of a record's metadata; a condition on a field that the record lacks does not hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from serving.collections.config import MAX_FILTER_CONDITIONS, MAX_FILTER_DEPTH, MAX_FILTER_VALUES
from serving.collections.types import GeoPoint, MetadataValue
from serving.errors import InputTooLarge, InvalidInput

__all__ = [
    "AllOf",
    "AnyOf",
    "Condition",
    "Exists",
    "FieldCondition",
    "GeoRadius",
    "Negation",
    "OneOf",
    "Prefix",
    "Range",
    "check_size",
    "field_conditions",
]


@dataclass(frozen=True, slots=True)
class OneOf:
    """The field equals one of several values; a list of strings: contains one of them."""

    field: str
    values: tuple[MetadataValue, ...]
    """At least one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The field lies between bounds; `None`: no such bound."""

    field: str
    greater_or_equal: MetadataValue | None = None
    greater: MetadataValue | None = None
    less_or_equal: MetadataValue | None = None
    less: MetadataValue | None = None

    @property
    def bounds(self) -> tuple[MetadataValue, ...]:
        """Those that are set."""
        every = (self.greater_or_equal, self.greater, self.less_or_equal, self.less)
        return tuple(bound for bound in every if bound is not None)


@dataclass(frozen=True, slots=True)
class Exists:
    """The record has the field."""

    field: str


@dataclass(frozen=True, slots=True)
class Prefix:
    """The field is a string that begins with another, bytewise."""

    field: str
    prefix: str


@dataclass(frozen=True, slots=True)
class GeoRadius:
    """The field is a place within a distance over the Earth's surface, inclusive."""

    field: str
    centre: GeoPoint
    radius_m: float
    """Greater than 0."""


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every one holds."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one holds."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Negation:
    """It does not hold: so it does for records that lack the field."""

    condition: Condition


FieldCondition = OneOf | Range | Exists | Prefix | GeoRadius
"""A condition on one field."""
Condition = FieldCondition | AllOf | AnyOf | Negation
"""A filter, or a part of one."""


def field_conditions(condition: Condition) -> Iterator[FieldCondition]:
    """Yields the conditions on single fields, in order.

    Args:
        condition: Of at most `MAX_FILTER_DEPTH` levels.

    Yields:
        The leaves.
    """
    if isinstance(condition, Negation):
        yield from field_conditions(condition.condition)
    elif isinstance(condition, AllOf | AnyOf):
        for part in condition.conditions:
            yield from field_conditions(part)
    else:
        yield condition


def check_size(condition: Condition) -> None:
    """Refuses a filter that is nested too deeply or too long.

    Args:
        condition: Any.

    Raises:
        InputTooLarge: It is over a published limit.
        InvalidInput: It joins no conditions.
    """
    count, values, level = 0, 0, [condition]
    for depth in range(1, MAX_FILTER_DEPTH + 2):
        if depth > MAX_FILTER_DEPTH:
            raise InputTooLarge(
                f"the filter nests more than {MAX_FILTER_DEPTH} levels of conditions; write it flatter",
                limit=MAX_FILTER_DEPTH,
            )
        count += len(level)
        values += sum(len(part.values) for part in level if isinstance(part, OneOf))
        if any(isinstance(part, AllOf | AnyOf) and not part.conditions for part in level):
            raise InvalidInput("the filter joins no conditions with and, or; give at least one")
        level = [inner for part in level for inner in _inside(part)]
        if not level:
            break
    for name, number, limit in (
        ("conditions", count, MAX_FILTER_CONDITIONS),
        ("values", values, MAX_FILTER_VALUES),
    ):
        if number > limit:
            raise InputTooLarge(f"the filter has {number} {name}, more than {limit}; ask in parts", limit=limit)


def _inside(condition: Condition) -> tuple[Condition, ...]:
    if isinstance(condition, Negation):
        return (condition.condition,)
    return condition.conditions if isinstance(condition, AllOf | AnyOf) else ()

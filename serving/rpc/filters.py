"""Filters as they come over the wire."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from diptych.v1 import filter_pb2
from serving.collections.config import MAX_FILTER_DEPTH
from serving.collections.filters.conditions import (
    AllOf,
    AnyOf,
    Condition,
    Exists,
    FieldCondition,
    GeoRadius,
    Negation,
    OneOf,
    Prefix,
    Range,
)
from serving.collections.types import GeoPoint, MetadataValue
from serving.errors import InputTooLarge, InvalidInput
from serving.rpc.metadata import value_from_wire

__all__ = ["condition_from_wire"]

_Bound = Literal["greater_or_equal", "greater", "less_or_equal", "less"]
_BOUNDS: tuple[_Bound, ...] = ("greater_or_equal", "greater", "less_or_equal", "less")


def condition_from_wire(message: filter_pb2.Filter, *, place: str = "filter", depth: int = 1) -> Condition:
    """Reads a filter.

    Args:
        message: As sent.
        place: Where it stood in the request, for the message.
        depth: How deep it stands in another.

    Returns:
        The filter, not yet checked against any collection's fields.

    Raises:
        InvalidInput: A part of it is unset.
        InputTooLarge: It is nested too deeply.
    """
    if depth > MAX_FILTER_DEPTH:
        raise InputTooLarge(
            f"the filter nests more than {MAX_FILTER_DEPTH} levels of conditions; write it flatter",
            limit=MAX_FILTER_DEPTH,
        )
    kind = message.WhichOneof("condition")
    match kind:
        case None:
            raise InvalidInput(f"{place} has no condition; set one, or leave it out", field=place)
        case "all_of":
            return AllOf(_conditions(message.all_of.filters, f"{place}.all_of", depth))
        case "any_of":
            return AnyOf(_conditions(message.any_of.filters, f"{place}.any_of", depth))
        case "negation":
            return Negation(condition_from_wire(message.negation, place=f"{place}.negation", depth=depth + 1))
        case _:
            return _field_condition(message, kind, f"{place}.{kind}")


def _conditions(messages: Iterable[filter_pb2.Filter], place: str, depth: int) -> tuple[Condition, ...]:
    return tuple(
        condition_from_wire(message, place=f"{place}[{index}]", depth=depth + 1)
        for index, message in enumerate(messages)
    )


def _field_condition(message: filter_pb2.Filter, kind: str, place: str) -> FieldCondition:
    match kind:
        case "equals":
            value = value_from_wire(message.equals.value, f"{place}.value")
            return OneOf(message.equals.field, (value,))
        case "one_of":
            values = (value_from_wire(value, f"{place}.values") for value in message.one_of.values)
            return OneOf(message.one_of.field, tuple(values))
        case "range":
            return _range(message.range, place)
        case "exists":
            return Exists(message.exists)
        case "prefix":
            return Prefix(message.prefix.field, message.prefix.prefix)
        case _:
            radius = message.geo_radius
            centre = GeoPoint(radius.centre.latitude_deg, radius.centre.longitude_deg)
            return GeoRadius(radius.field, centre, radius.radius_m)


def _range(message: filter_pb2.RangeFilter, place: str) -> Range:
    bounds: dict[_Bound, MetadataValue] = {
        name: value_from_wire(getattr(message, name), f"{place}.{name}") for name in _BOUNDS if message.HasField(name)
    }
    return Range(field=message.field, **bounds)

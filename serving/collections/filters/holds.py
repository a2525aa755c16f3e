"""A filter as a test of one record's metadata, for records that no column shows yet, or no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

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
from serving.collections.filters.geometry import within_radius
from serving.collections.types import GeoPoint, MetadataValue

__all__ = ["holds"]


def holds(condition: Condition, metadata: Mapping[str, MetadataValue]) -> bool:
    """Says whether a filter holds for a record.

    Args:
        condition: Checked against the declared fields.
        metadata: Values of declared fields are of their types.

    Returns:
        What the columns would say.
    """
    match condition:
        case AllOf(conditions=parts):
            return all(holds(part, metadata) for part in parts)
        case AnyOf(conditions=parts):
            return any(holds(part, metadata) for part in parts)
        case Negation(condition=inner):
            return not holds(inner, metadata)
        case _:
            value = metadata.get(condition.field)
            return value is not None and _value_holds(condition, value)


def _value_holds(condition: FieldCondition, value: Any) -> bool:
    match condition:
        case Exists():
            return True
        case OneOf(values=wanted):
            return bool(set(wanted).intersection(value)) if isinstance(value, tuple | list) else value in wanted
        case Prefix(prefix=prefix):
            return str(value).startswith(prefix)
        case Range():
            return _in_range(condition, value)
        case GeoRadius(centre=centre, radius_m=radius_m):
            return _in_radius(value, centre, radius_m)


def _in_range(condition: Range, value: Any) -> bool:
    bounds: tuple[Any, ...] = (condition.greater_or_equal, condition.greater, condition.less_or_equal, condition.less)
    least, above, most, below = bounds
    return (
        (least is None or value >= least)
        and (above is None or value > above)
        and (most is None or value <= most)
        and (below is None or value < below)
    )


def _in_radius(value: GeoPoint, centre: GeoPoint, radius_m: float) -> bool:
    latitude, longitude = np.array([value.latitude_deg]), np.array([value.longitude_deg])
    return bool(within_radius(latitude, longitude, centre, radius_m)[0])

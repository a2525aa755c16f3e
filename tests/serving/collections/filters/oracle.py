"""Filters in plain Python, beside the columns: how a person would read them; and strategies that make both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

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
from serving.collections.types import FieldDefinition, FieldType, GeoPoint, MetadataValue

FIELDS = (
    FieldDefinition("name", FieldType.STRING),
    FieldDefinition("count", FieldType.INTEGER),
    FieldDefinition("price", FieldType.FLOAT),
    FieldDefinition("good", FieldType.BOOL),
    FieldDefinition("seen", FieldType.TIMESTAMP),
    FieldDefinition("tags", FieldType.STRING_LIST),
    FieldDefinition("place", FieldType.GEO_POINT),
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def distance_m(a: GeoPoint, b: GeoPoint) -> float:
    """By the angle between two unit vectors, not by the haversine."""

    def unit(p: GeoPoint) -> tuple[float, float, float]:
        latitude, longitude = math.radians(p.latitude_deg), math.radians(p.longitude_deg)
        return (
            math.cos(latitude) * math.cos(longitude),
            math.cos(latitude) * math.sin(longitude),
            math.sin(latitude),
        )

    one, other = unit(a), unit(b)
    cross = math.sqrt(
        (one[1] * other[2] - one[2] * other[1]) ** 2
        + (one[2] * other[0] - one[0] * other[2]) ** 2
        + (one[0] * other[1] - one[1] * other[0]) ** 2
    )
    return 6_371_008.8 * math.atan2(cross, sum(x * y for x, y in zip(one, other, strict=True)))


def truth(condition: Condition, metadata: Mapping[str, Any]) -> bool:
    match condition:
        case AllOf(conditions=parts):
            return all([truth(part, metadata) for part in parts])
        case AnyOf(conditions=parts):
            return any([truth(part, metadata) for part in parts])
        case Negation(condition=inner):
            return not truth(inner, metadata)
    return condition.field in metadata and leaf_truth(condition, metadata[condition.field])


def leaf_truth(condition: FieldCondition, value: Any) -> bool:
    match condition:
        case Exists():
            return True
        case OneOf(values=values):
            return any(item in values for item in value) if isinstance(value, tuple) else value in values
        case Prefix(prefix=prefix):
            return bool(value.encode().startswith(prefix.encode()))
        case GeoRadius(centre=centre, radius_m=radius_m):
            return distance_m(value, centre) <= radius_m
    return in_range(condition, value)


def in_range(condition: Range, value: Any) -> bool:
    tests = [
        value >= condition.greater_or_equal if condition.greater_or_equal is not None else True,
        value > condition.greater if condition.greater is not None else True,
        value <= condition.less_or_equal if condition.less_or_equal is not None else True,
        value < condition.less if condition.less is not None else True,
    ]
    return all(tests)


TEXT = st.sampled_from(["", "a", "ab", "abc", "b", "ä", "äh", "\U0001f600", "\uffff"])
NUMBERS = {
    "count": st.sampled_from([-(2**63), 2**63 - 1, 2**53 + 1]) | st.integers(-3, 3),
    "price": st.sampled_from([math.inf, -math.inf, -0.0, 2**53]) | st.integers(-2, 2) | st.sampled_from([0.5, 1e-9]),
    "seen": st.integers(-3, 3).map(lambda n: EPOCH + timedelta(microseconds=n)),
}
# On a grid of whole degrees, with radii that no distance between two of its places comes near.
PLACES = st.builds(GeoPoint, st.integers(-90, 90).map(float), st.integers(-180, 180).map(float))
VALUES: dict[str, st.SearchStrategy[MetadataValue]] = {
    "name": TEXT,
    **NUMBERS,
    "good": st.booleans(),
    "tags": st.lists(TEXT, max_size=3).map(tuple),
    "place": PLACES,
}
METADATA: st.SearchStrategy[dict[str, MetadataValue]] = st.fixed_dictionaries({}, optional=VALUES)


def one_of(field: str) -> st.SearchStrategy[Condition]:
    values = TEXT if field == "tags" else VALUES[field]
    return st.lists(values, min_size=1, max_size=3).map(lambda values: OneOf(field, tuple(values)))


def between(field: str) -> st.SearchStrategy[Condition]:
    bounds = st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("greater_or_equal", "greater", "less_or_equal", "less"), NUMBERS[field])
    )
    return bounds.filter(bool).map(lambda chosen: Range(field=field, **chosen))


LEAVES: st.SearchStrategy[Condition] = st.one_of(
    *(one_of(field) for field in VALUES if field != "place"),
    *(between(field) for field in NUMBERS),
    st.sampled_from(list(VALUES)).map(Exists),
    TEXT.map(lambda prefix: Prefix("name", prefix)),
    st.builds(lambda centre, radius: GeoRadius("place", centre, radius), PLACES, st.sampled_from([1.5e5, 3.33e6, 3e7])),
)
CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: AllOf(tuple(parts)))
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: AnyOf(tuple(parts)))
        | inner.map(Negation)
    ),
    max_leaves=5,
)

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from serving.collections.config import MAX_FIELDS, MAX_FILTER_CONDITIONS, MAX_FILTER_DEPTH, MAX_FILTER_VALUES
from serving.collections.filters.conditions import (
    AllOf,
    AnyOf,
    Condition,
    Exists,
    GeoRadius,
    Negation,
    OneOf,
    Prefix,
    Range,
)
from serving.collections.filters.fields import check_condition, check_fields, contradiction, fits
from serving.collections.types import FieldDefinition, FieldType, GeoPoint, MetadataValue
from serving.errors import InputTooLarge, InvalidInput
from tests.serving.collections.filters.oracle import FIELDS

SAMPLES: dict[FieldType, MetadataValue] = {
    FieldType.STRING: "x",
    FieldType.INTEGER: 3,
    FieldType.FLOAT: 2.5,
    FieldType.BOOL: True,
    FieldType.TIMESTAMP: datetime(2026, 1, 1, tzinfo=UTC),
    FieldType.STRING_LIST: ("x",),
    FieldType.GEO_POINT: GeoPoint(1.0, 2.0),
}


@pytest.mark.parametrize("kind", FieldType)
def test_a_value_fits_its_own_type_and_whole_numbers_fit_floats(kind: FieldType) -> None:
    fitting = {name for name, value in SAMPLES.items() if fits(kind, value)}
    assert fitting == ({kind, FieldType.INTEGER} if kind is FieldType.FLOAT else {kind})
    assert not fits(FieldType.FLOAT, 2**53 + 1)


def test_a_contradiction_names_field_value_and_declared_type() -> None:
    assert contradiction(FIELDS, {"count": 3, "undeclared": 5, "price": 3}) is None
    error = contradiction(FIELDS, {"name": "x", "count": 2.5})
    assert error is not None
    assert error.message == (
        "metadata 'count' is a float (2.5), but the collection declares that field as an integer; "
        "bring one, or leave it out"
    )


@pytest.mark.parametrize(
    ("condition", "complaint"),
    [
        (Exists("other"), r"'other', which is not declared \(declared: name \(string\), count \(integer\), price "),
        (OneOf("count", (2.5,)), "compared with a float"),
        (OneOf("count", ()), "compares with no value"),
        (OneOf("price", (float("nan"),)), "NaN"),
        (OneOf("count", (2**63,)), "64 bits"),
        (OneOf("seen", (datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None),)), "no time zone"),
        (OneOf("good", (1,)), "compared with an integer"),
        (OneOf("tags", (("a",),)), "compared with a list of strings"),
        (OneOf("place", (GeoPoint(0, 0),)), "ask for a radius"),
        (Range(field="count"), "no bound"),
        (Range(field="name", less="b"), "not of a string"),
        (Range(field="seen", less=5), "compared with an integer"),
        (Prefix("tags", "a"), "a prefix is asked of a string, not of a list"),
        (GeoRadius("name", GeoPoint(0, 0), 1.0), "a radius is asked of a geo point"),
        (GeoRadius("place", GeoPoint(0, 0), 0.0), r"radius_m \(0.0\) must be greater than 0"),
        (GeoRadius("place", GeoPoint(0, 0), float("nan")), "must be greater than 0"),
        (GeoRadius("place", GeoPoint(91, 0), 1.0), "not on Earth"),
        (AllOf(()), "joins no conditions"),
        (Negation(AnyOf((Exists("name"), Prefix("count", "a")))), "on field 'count'"),
    ],
)
def test_what_a_field_cannot_answer_is_refused(condition: Condition, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        check_condition(condition, FIELDS)


def nested(depth: int) -> Condition:
    condition: Condition = Exists("name")
    for _ in range(depth - 1):
        condition = Negation(condition)
    return condition


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (nested(MAX_FILTER_DEPTH), nested(MAX_FILTER_DEPTH + 1)),
        (
            AllOf((Exists("name"),) * (MAX_FILTER_CONDITIONS - 1)),
            AllOf((Exists("name"),) * MAX_FILTER_CONDITIONS),
        ),
        (OneOf("name", ("x",) * MAX_FILTER_VALUES), OneOf("name", ("x",) * (MAX_FILTER_VALUES + 1))),
    ],
)
def test_a_filter_is_bounded_in_depth_and_size(good: Condition, bad: Condition) -> None:
    check_condition(good, FIELDS)
    with pytest.raises(InputTooLarge):
        check_condition(bad, FIELDS)


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["a", "b", "a"], "'a' is declared twice"),
        ([""], "1 to 128 bytes"),
        (["x" * 129], "1 to 128 bytes"),
        (["a\n"], "printable"),
        ([f"f{number}" for number in range(MAX_FIELDS + 1)], "65 fields, more than 64"),
    ],
)
def test_fields_that_cannot_be_declared(names: list[str], complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        check_fields([FieldDefinition(name, FieldType.STRING) for name in names])


def test_a_wrong_type_of_many_is_named() -> None:
    metadata: dict[str, Any] = {"tags": "one"}
    error = contradiction(FIELDS, metadata)
    assert error is not None
    assert error.metadata == {"field": "tags", "declared": "string_list"}

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.collections.config import MAX_METADATA_BYTES
from serving.collections.metadata_codec import decode_metadata, encode_metadata
from serving.collections.types import GeoPoint, MetadataValue
from serving.errors import InputTooLarge, InvalidInput

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES: st.SearchStrategy[MetadataValue] = st.one_of(
    TEXT,
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.booleans(),
    st.datetimes(timezones=st.just(UTC)),
    st.lists(TEXT, max_size=4).map(tuple),
    st.builds(GeoPoint, st.floats(-90, 90), st.floats(-180, 180)),
)


@given(st.dictionaries(TEXT.filter(bool), VALUES, max_size=6))
def test_metadata_comes_back_equal_and_of_the_same_types(metadata: dict[str, MetadataValue]) -> None:
    decoded = decode_metadata(encode_metadata(metadata))

    assert decoded == metadata
    assert {key: type(value) for key, value in decoded.items()} == {key: type(value) for key, value in metadata.items()}


def test_largest_integer_survives_where_a_double_would_not() -> None:
    assert decode_metadata(encode_metadata({"n": 2**53 + 1})) == {"n": 2**53 + 1}


def test_negative_zero_keeps_its_sign() -> None:
    value = decode_metadata(encode_metadata({"x": -0.0}))["x"]
    assert isinstance(value, float)
    assert math.copysign(1, value) == -1


def test_timestamps_of_any_zone_are_stored_in_utc() -> None:
    noon = datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=5)))
    assert decode_metadata(encode_metadata({"t": noon})) == {"t": datetime(2026, 1, 2, 7, 0, 0, 123456, tzinfo=UTC)}


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (math.nan, "NaN"),
        (2**63, "64 bits"),
        (-(2**63) - 1, "64 bits"),
        (datetime(2026, 1, 1), "time zone"),  # noqa: DTZ001 - a naive time is what is refused
        (GeoPoint(90.5, 0), "not on Earth"),
        (GeoPoint(math.nan, 0), "not on Earth"),
        (None, "NoneType"),
        (b"bytes", "bytes"),
        (("text", 1), "strings only"),
        ("\ud800", "UTF-8"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(value: MetadataValue, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint) as caught:
        encode_metadata({"field": value})
    assert caught.value.metadata["key"] == "field"


@pytest.mark.parametrize("key", ["", "k" * 257, "\ud800"])
def test_bad_keys_are_refused(key: str) -> None:
    with pytest.raises(InvalidInput, match="metadata key"):
        encode_metadata({key: 1})


def test_metadata_over_the_limit_is_refused_with_its_size() -> None:
    overhead = len('{"a":""}')
    assert len(encode_metadata({"a": "x" * (MAX_METADATA_BYTES - overhead)})) == MAX_METADATA_BYTES
    with pytest.raises(InputTooLarge) as caught:
        encode_metadata({"a": "x" * (MAX_METADATA_BYTES - overhead + 1)})
    assert caught.value.metadata["size_bytes"] == str(MAX_METADATA_BYTES + 1)

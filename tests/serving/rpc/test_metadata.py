from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.v1 import metadata_pb2
from serving.collections.types import GeoPoint, MetadataValue
from serving.errors import InvalidInput
from serving.rpc.metadata import metadata_from_wire, metadata_to_wire

VALUES = st.one_of(
    st.text(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.datetimes(timezones=st.just(UTC)),
    st.lists(st.text()).map(tuple),
    st.builds(GeoPoint, st.floats(-90, 90), st.floats(-180, 180)),
)


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_every_value_comes_back_in_its_own_type(metadata: dict[str, MetadataValue]) -> None:
    sent = metadata_pb2.Metadata.FromString(metadata_to_wire(metadata).SerializeToString())
    back = metadata_from_wire(sent)
    assert back == metadata
    assert {name: type(value) for name, value in back.items()} == {
        name: type(value) for name, value in metadata.items()
    }


def test_an_empty_list_is_a_list_not_nothing() -> None:
    assert metadata_from_wire(metadata_to_wire({"tags": ()})) == {"tags": ()}


def test_times_of_another_zone_are_the_same_moment() -> None:
    there = datetime(2024, 2, 29, 13, 0, 0, 123_456, tzinfo=timezone(timedelta(hours=9)))
    back = metadata_from_wire(metadata_to_wire({"at": there}))["at"]
    assert back == datetime(2024, 2, 29, 4, 0, 0, 123_456, tzinfo=UTC)


def test_digits_finer_than_microseconds_are_cut() -> None:
    message = metadata_pb2.Metadata()
    message.values["at"].timestamp_value.seconds = 1
    message.values["at"].timestamp_value.nanos = 1_999
    assert metadata_from_wire(message)["at"] == datetime(1970, 1, 1, 0, 0, 1, 1, tzinfo=UTC)


def test_a_value_without_a_kind_is_refused_by_name() -> None:
    message = metadata_pb2.Metadata()
    message.values["colour"].SetInParent()
    with pytest.raises(InvalidInput, match=r"metadata\['colour'\] has no value"):
        metadata_from_wire(message)


def test_a_time_no_calendar_has_is_refused() -> None:
    message = metadata_pb2.Metadata()
    message.values["at"].timestamp_value.seconds = 2**60
    with pytest.raises(InvalidInput, match="the years 1 to 9999"):
        metadata_from_wire(message)

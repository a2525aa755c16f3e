"""Filters over the wire, as the client writes them, against a real server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import grpc
import numpy as np
import pytest

from diptych.client import field
from diptych.client.errors import InvalidArgumentError, PreconditionError
from diptych.client.filters import Filter
from diptych.client.sync import Client
from diptych.client.types import GeoPoint, MetadataValue
from diptych.v1 import collection_pb2, collection_service_pb2, collection_service_pb2_grpc, filter_pb2, metadata_pb2

FIELDS = {
    "name": "string",
    "count": "integer",
    "price": "float",
    "good": "bool",
    "seen": "timestamp",
    "tags": "string_list",
    "place": "geo_point",
}
START = datetime(2026, 1, 1, tzinfo=UTC)


def metadata(row: int) -> dict[str, MetadataValue]:
    return {
        "name": f"{'ab'[row % 2]}{row}",
        "count": row,
        "price": row / 2,
        "good": row % 3 == 0,
        "seen": START + timedelta(days=row),
        "tags": ["even" if row % 2 == 0 else "odd", f"t{row}"],
        "place": GeoPoint(float(row), 10.0),
        "free": "text",
    }


@pytest.fixture
def notes(client: Client) -> Client:
    """Ten records that have every field, and one that has none."""
    client.create_collection("notes", dimension=4, fields=FIELDS)
    vectors = np.random.default_rng(1).standard_normal((11, 4)).astype(np.float32)
    described: list[dict[str, MetadataValue]] = [*map(metadata, range(10)), {}]
    client.upsert("notes", [f"r{row:02}" for row in range(11)], vectors=vectors, metadata=described)
    return client


def names(*rows: int) -> list[str]:
    return [f"r{row:02}" for row in rows]


CASES: list[tuple[Filter, str, list[str]]] = [
    (field("name") == "a4", 'name == "a4"', names(4)),
    (field("name").startswith("a"), "startswith(name, 'a')", names(0, 2, 4, 6, 8)),
    (field("count") >= 8, "count >= 8", names(8, 9)),
    (field("count") < 1, "count < 1", names(0)),
    (field("price").between(1, 2.5), "price between 1 and 2.5", names(2, 3, 4, 5)),
    ((field("price") > 1) & (field("price") <= 2), "price > 1 and price <= 2", names(3, 4)),
    (field("good") == True, "good == true", names(0, 3, 6, 9)),  # noqa: E712 # builds a filter
    (
        field("seen") > START + timedelta(days=7),
        'seen > timestamp("2026-01-08")',
        names(8, 9),
    ),
    (field("tags").contains("odd"), "tags contains 'odd'", names(1, 3, 5, 7, 9)),
    (field("tags").one_of(["t1", "t2"]), 'tags in ("t1", "t2")', names(1, 2)),
    (field("place").within(GeoPoint(5.0, 10.0), 120_000), "within(place, 5, 10, 120000)", names(4, 5, 6)),
    (~field("count").exists(), "not exists(count)", names(10)),
    (field("count") != 3, "count != 3", names(0, 1, 2, 4, 5, 6, 7, 8, 9, 10)),
    (~field("count").one_of(range(1, 10)), "count not in (1,2,3,4,5,6,7,8,9)", names(0, 10)),
    (
        (field("count") < 2) | ((field("name") == "b7") & ~(field("good") == True)),  # noqa: E712 # as above
        "count < 2 or (name == 'b7' and not good == true)",
        names(0, 1, 7),
    ),
]


@pytest.mark.parametrize(("built", "written", "expected"), CASES, ids=[case[1] for case in CASES])
def test_what_is_built_and_what_is_written_find_the_same(
    notes: Client, built: Filter, written: str, expected: list[str]
) -> None:
    for given in (built, written):
        found = notes.search("notes", vector=np.ones(4), k=11, filter=given)
        assert sorted(found.ids) == expected
        assert [record.id for record in notes.records("notes", filter=given, page_size=3)] == expected
        assert notes.count("notes", filter=given) == len(expected)


def test_a_batch_applies_one_filter_to_every_query(notes: Client) -> None:
    found = notes.batch_search("notes", vectors=np.eye(4), k=3, filter=field("tags") == "even", with_metadata=True)
    assert [len(one) for one in found] == [3] * 4
    assert all("even" in values["tags"] for one in found for values in one.metadata or ())  # type: ignore[operator]  # a list of strings


def test_all_that_match_are_deleted_at_once(notes: Client) -> None:
    result = notes.delete("notes", filter="count < 4")
    assert (result.deleted_count, result.sequence) == (4, 15)
    assert [record.id for record in notes.records("notes")] == names(4, 5, 6, 7, 8, 9, 10)
    assert notes.delete("notes", filter="count < 4").deleted_count == 0


def test_a_field_that_is_not_declared_is_refused_and_the_declared_are_named(notes: Client) -> None:
    for call in (
        lambda: notes.search("notes", vector=np.ones(4), filter="free == 'text'"),
        lambda: notes.count("notes", filter="free == 'text'"),
        lambda: list(notes.records("notes", filter="free == 'text'")),
        lambda: notes.delete("notes", filter="free == 'text'"),
    ):
        with pytest.raises(InvalidArgumentError, match=r"'free', which is not declared \(declared: name \(string\), "):
            call()
    assert notes.count("notes") == 11


def test_fields_are_declared_filled_and_dropped_while_the_collection_lives(notes: Client) -> None:
    assert notes.collection("notes").fields == FIELDS
    changed = notes.update_collection("notes", fields={"free": "string", "count": "integer"})
    assert changed.fields == {"free": "string", "count": "integer"}
    assert notes.count("notes", filter="free == 'text' and count < 3") == 3
    with pytest.raises(InvalidArgumentError, match="'name', which is not declared"):
        notes.count("notes", filter="exists(name)")
    with pytest.raises(PreconditionError, match="of record 'r00', metadata 'name' is a string"):
        notes.update_collection("notes", fields={"name": "integer"})
    with pytest.raises(PreconditionError, match="declared as integer already"):
        notes.update_collection("notes", fields={"count": "float"})
    assert notes.collection("notes").fields == {"free": "string", "count": "integer"}
    assert notes.update_collection("notes", display_name="N").fields == {"free": "string", "count": "integer"}


def test_a_write_that_contradicts_a_field_is_refused_by_item(notes: Client) -> None:
    with pytest.raises(InvalidArgumentError, match="metadata 'count' is a string"):
        notes.upsert("notes", ["a", "b"], vectors=np.ones((2, 4)), metadata=[{"count": 1}, {"count": "one"}])
    written = notes.upsert(
        "notes", ["a", "b"], vectors=np.ones((2, 4)), metadata=[{"count": 1}, {"count": "one"}], allow_partial=True
    )
    assert list(written.errors) == [1]
    assert "declares that field as an integer" in str(written.errors[1])


def nested(depth: int) -> filter_pb2.Filter:
    message = filter_pb2.Filter(exists="count")
    for _ in range(depth - 1):
        message = filter_pb2.Filter(negation=message)
    return message


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (filter_pb2.Filter(), "filter has no condition"),
        (filter_pb2.Filter(all_of=filter_pb2.FilterList()), "joins no conditions"),
        (
            filter_pb2.Filter(any_of=filter_pb2.FilterList(filters=[filter_pb2.Filter()])),
            r"filter\.any_of\[0\] has no condition",
        ),
        (
            filter_pb2.Filter(equals=filter_pb2.EqualsFilter(field="count", value=metadata_pb2.MetadataValue())),
            r"filter\.equals\.value has no value",
        ),
        (filter_pb2.Filter(range=filter_pb2.RangeFilter(field="count")), "no bound"),
        (nested(17), "nests more than 16 levels"),
    ],
)
def test_what_is_no_filter_is_refused(
    notes: Client, channel: grpc.Channel, message: filter_pb2.Filter, complaint: str
) -> None:
    stub = collection_service_pb2_grpc.CollectionServiceStub(channel)
    with pytest.raises(grpc.RpcError, match=complaint) as caught:
        stub.CountRecords(collection_service_pb2.CountRecordsRequest(collection="notes", filter=message))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_ids_and_a_filter_are_not_deleted_by_together(notes: Client, channel: grpc.Channel) -> None:
    stub = collection_service_pb2_grpc.CollectionServiceStub(channel)
    for ids, message in ((["r00"], nested(1)), ([], None)):
        request = collection_service_pb2.DeleteRecordsRequest(collection="notes", ids=ids, filter=message)
        with pytest.raises(grpc.RpcError, match="either ids or filter must be set"):
            stub.DeleteRecords(request)


def test_a_field_without_a_known_type_is_refused(client: Client, channel: grpc.Channel) -> None:
    stub = collection_service_pb2_grpc.CollectionServiceStub(channel)
    for kind in (collection_pb2.FIELD_TYPE_UNSPECIFIED, 99):
        definition = collection_pb2.FieldDefinition(name="a", type=kind)  # type: ignore[arg-type]  # one is unknown
        collection = collection_pb2.Collection(name="x", dimension=2, fields=[definition])
        with pytest.raises(grpc.RpcError, match=f"field 'a' has type {kind}, which is none"):
            stub.CreateCollection(collection_service_pb2.CreateCollectionRequest(collection=collection))

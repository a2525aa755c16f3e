from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import grpc
import numpy as np
import pytest

from diptych.client.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    PreconditionError,
)
from diptych.client.sync import Client
from diptych.client.types import GeoPoint, MetadataValue
from diptych.v1 import collection_service_pb2, collection_service_pb2_grpc, embedding_pb2, tensor_pb2
from tests.serving.fake_encoders import FakeEncoder, vector_of

SPACE = "space-of-words"


@pytest.fixture
def notes(client: Client) -> Client:
    client.create_collection("notes", encoder="words", retain_sources=True)
    return client


@pytest.fixture
def stub(channel: grpc.Channel) -> collection_service_pb2_grpc.CollectionServiceStub:
    return collection_service_pb2_grpc.CollectionServiceStub(channel)


def test_a_collection_takes_space_dimension_and_metric_from_its_encoder(client: Client) -> None:
    made = client.create_collection("notes", encoder="words", display_name="Notes", index="exact")
    assert (made.space, made.dimension, made.metric, made.encoder) == (SPACE, 8, "cosine", "words")
    assert (made.display_name, made.index, made.record_count, made.sequence) == ("Notes", "exact", 0, 0)
    assert client.collection("notes") == made


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        ({"space": "other"}, PreconditionError, "makes vectors of the space 'space-of-words', not of 'other'"),
        ({"dimension": 9}, InvalidArgumentError, r"dimension \(9\) must be 8"),
        ({"metric": "l2"}, InvalidArgumentError, r"metric \(l2\) must be cosine"),
    ],
)
def test_what_contradicts_the_encoder_is_refused(
    client: Client, wanted: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        client.create_collection("notes", encoder="words", **wanted)  # type: ignore[arg-type]  # as the cases give them


def test_a_collection_needs_an_encoder_or_a_dimension(client: Client) -> None:
    with pytest.raises(InvalidArgumentError, match="needs an encoder or a dimension"):
        client.create_collection("notes")


def test_collections_come_and_go(client: Client) -> None:
    client.create_collection("b", dimension=3)
    client.create_collection("a", dimension=2, metric="l2")
    with pytest.raises(AlreadyExistsError):
        client.create_collection("a", dimension=2)
    assert [(one.name, one.metric) for one in client.collections()] == [("a", "l2"), ("b", "cosine")]
    client.delete_collection("a")
    with pytest.raises(NotFoundError):
        client.delete_collection("a")
    client.delete_collection("a", allow_missing=True)
    assert [one.name for one in client.collections()] == ["b"]


def test_only_the_display_name_the_fields_and_the_index_can_change(
    client: Client, stub: collection_service_pb2_grpc.CollectionServiceStub
) -> None:
    client.create_collection("a", dimension=2)
    assert client.update_collection("a", display_name="Ah").display_name == "Ah"
    request = collection_service_pb2.UpdateCollectionRequest()
    request.collection.name = "a"
    request.update_mask.paths.append("dimension")
    with pytest.raises(
        grpc.RpcError, match=r"update_mask \(dimension\) must be of 'display_name', 'fields' and 'index'"
    ):
        stub.UpdateCollection(request)


def test_records_from_texts_keep_metadata_source_and_fingerprint(notes: Client) -> None:
    metadata: dict[str, MetadataValue] = {
        "n": 2**53 + 1,
        "x": 0.5,
        "yes": True,
        "at": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        "tags": ["a", "b"],
        "where": GeoPoint(52.5, 13.4),
    }
    written = notes.upsert("notes", ["a"], texts=["one two"], metadata=[metadata])
    assert written.versions.tolist() == [1]
    found = notes.get("notes", ["a"], with_vectors=True, with_sources=True, min_sequence=written.sequence)[0]
    assert found is not None
    assert found.metadata == metadata
    assert (found.source, found.source_type) == (b"one two", "text/plain")
    assert found.fingerprint == "fingerprint-of-words"
    assert found.vector is not None
    np.testing.assert_array_equal(found.vector, vector_of("one two"))


def test_a_read_returns_what_was_asked_for_and_no_more(notes: Client) -> None:
    notes.upsert("notes", ["a"], texts=["one"], metadata=[{"n": 1}])
    bare = notes.get("notes", ["a"], with_metadata=False)[0]
    assert bare is not None
    assert (bare.vector, bare.metadata, bare.source) == (None, {}, None)


def test_images_are_embedded_and_their_kind_is_kept(client: Client) -> None:
    client.create_collection("album", encoder="pictures", retain_sources=True)
    client.upsert("album", ["a"], images=[b"IMG one"])
    found = client.get("album", ["a"], with_vectors=True, with_sources=True)[0]
    assert found is not None
    assert (found.source, found.source_type) == (b"IMG one", "application/octet-stream")
    np.testing.assert_array_equal(found.vector, vector_of(b"IMG one"))


def test_one_bad_item_refuses_the_batch_and_is_named(notes: Client) -> None:
    with pytest.raises(InvalidArgumentError, match=r"index 1\)") as caught:
        notes.upsert("notes", ["a", "b"], texts=["fine", " "])
    assert list(caught.value.violations) == ["items[1]"]
    assert notes.count("notes") == 0


def test_a_partial_batch_writes_the_good_and_reports_the_bad_by_the_caller_s_index(notes: Client) -> None:
    written = notes.upsert("notes", ["a", "b", "", "d"], texts=["fine", " ", "no id", "good"], allow_partial=True)
    assert (written.versions > 0).tolist() == [True, False, False, True]
    assert sorted(written.errors) == [1, 2]
    assert "1 to 256" in written.errors[2].message
    assert [record.id for record in notes.records("notes")] == ["a", "d"]


def test_a_partial_batch_of_only_bad_records_writes_nothing(notes: Client) -> None:
    notes.upsert("notes", ["a"], texts=["fine"])
    written = notes.upsert("notes", ["b"], texts=[" "], allow_partial=True)
    assert (written.sequence, written.versions.tolist(), list(written.errors)) == (1, [0], [0])


def test_vectors_of_another_space_are_refused_even_at_equal_dimension(notes: Client) -> None:
    for space in ("space-of-pictures", ""):
        with pytest.raises(PreconditionError, match="vectors of two spaces cannot be compared") as caught:
            notes.upsert("notes", ["a"], vectors=np.ones((1, 8)), space=space)
        assert caught.value.reason == "SPACE_MISMATCH"
    assert notes.count("notes") == 0


def test_the_space_is_checked_before_the_dimension(notes: Client) -> None:
    with pytest.raises(PreconditionError):
        notes.upsert("notes", ["a"], vectors=np.ones((1, 3)), space="other")


def test_embeddings_bring_their_space_along(notes: Client) -> None:
    found = notes.embed(["one"], encoder="words")
    notes.upsert("notes", ["a"], vectors=found)
    [(identifier, score)] = notes.search("notes", text="one", k=1)
    assert identifier == "a"
    assert score == pytest.approx(1.0)


def test_texts_need_a_collection_with_an_encoder(client: Client) -> None:
    client.create_collection("raw", dimension=2)
    with pytest.raises(PreconditionError, match="collection 'raw' has no encoder; send vectors"):
        client.upsert("raw", ["a"], texts=["one"])


def test_packed_vectors_fill_the_records_that_have_no_content(
    client: Client, stub: collection_service_pb2_grpc.CollectionServiceStub
) -> None:
    client.create_collection("raw", dimension=2, metric="l2")
    one = tensor_pb2.Tensor(dtype=tensor_pb2.D_TYPE_FLOAT32, shape=[2], data=np.array([9, 9], "<f4").tobytes())
    packed = np.array([[1, 2], [3, 4]], "<f4")
    request = collection_service_pb2.UpsertRecordsRequest(collection="raw")
    request.records.add(id="a")
    request.records.add(id="b", vector=one)
    request.records.add(id="c")
    request.vectors.CopyFrom(
        tensor_pb2.Tensor(dtype=tensor_pb2.D_TYPE_FLOAT32, shape=packed.shape, data=packed.tobytes())
    )
    stub.UpsertRecords(request)
    found = client.get("raw", ["a", "b", "c"], with_vectors=True)
    assert [record.vector.tolist() for record in found if record and record.vector is not None] == [
        [1, 2],
        [9, 9],
        [3, 4],
    ]
    del request.records[0]
    with pytest.raises(grpc.RpcError, match="vectors holds 2 rows for 1 records without content"):
        stub.UpsertRecords(request)


def test_a_repeated_request_is_done_once(
    stub: collection_service_pb2_grpc.CollectionServiceStub, notes: Client
) -> None:
    request = collection_service_pb2.UpsertRecordsRequest(collection="notes", request_id="once")
    request.records.add(id="a", input=embedding_pb2.Input(text="one"))
    first, second = stub.UpsertRecords(request), stub.UpsertRecords(request)
    assert list(first.versions) == list(second.versions) == [1]
    assert notes.collection("notes").sequence == 1


def test_a_repeated_request_is_recognised_by_its_text_though_its_vector_came_out_otherwise(
    stub: collection_service_pb2_grpc.CollectionServiceStub,
    notes: Client,
    words: FakeEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = collection_service_pb2.UpsertRecordsRequest(collection="notes", request_id="once")
    request.records.add(id="a", input=embedding_pb2.Input(text="one"))
    first = stub.UpsertRecords(request)
    run = words.run
    # A graph's last bits depend on what else is in the batch.
    monkeypatch.setattr(words, "run", lambda batch: np.nextafter(run(batch), np.float32(1)))
    assert list(stub.UpsertRecords(request).versions) == list(first.versions)
    request.records[0].input.text = "two"
    with pytest.raises(grpc.RpcError, match="already used for another write"):
        stub.UpsertRecords(request)


def test_a_version_that_does_not_hold_is_a_conflict(notes: Client) -> None:
    notes.upsert("notes", ["a"], texts=["one"], if_versions=[0])
    with pytest.raises(ConflictError):
        notes.upsert("notes", ["a"], texts=["two"], if_versions=[0])
    notes.upsert("notes", ["a"], texts=["two"], if_versions=[1])
    with pytest.raises(ConflictError):
        notes.get("notes", ["a"], min_sequence=99)


def test_metadata_changes_without_the_vector(notes: Client) -> None:
    notes.upsert("notes", ["a"], texts=["one"], metadata=[{"n": 1}])
    version = notes.update_metadata("notes", "a", {"m": 2}, if_version=1)
    found = notes.get("notes", ["a"], with_vectors=True)[0]
    assert found is not None
    assert (version, found.version, found.metadata) == (2, 2, {"m": 2})
    np.testing.assert_array_equal(found.vector, vector_of("one"))
    with pytest.raises(NotFoundError):
        notes.update_metadata("notes", "nobody", {})
    with pytest.raises(ConflictError):
        notes.update_metadata("notes", "a", {}, if_version=1)


def test_missing_records_are_named_in_order(
    notes: Client, stub: collection_service_pb2_grpc.CollectionServiceStub
) -> None:
    notes.upsert("notes", ["b"], texts=["one"])
    reply = stub.GetRecords(collection_service_pb2.GetRecordsRequest(collection="notes", ids=["c", "b", "a"]))
    assert ([record.id for record in reply.records], list(reply.missing_ids)) == (["b"], ["c", "a"])


def test_records_are_listed_by_the_bytes_of_their_ids_without_gap_or_repeat(notes: Client) -> None:
    ids = ["ö", "b", "a", "Z", "aa"]
    notes.upsert("notes", ids, texts=ids)
    for page_size in (1, 2, 5, 100):
        listed = [record.id for record in notes.records("notes", page_size=page_size)]
        assert listed == ["Z", "a", "aa", "b", "ö"]


def test_deletion_counts_what_was_there(notes: Client) -> None:
    notes.upsert("notes", ["a", "b"], texts=["one", "two"])
    result = notes.delete("notes", ["a", "nobody"])
    assert (result.deleted_count, notes.count("notes")) == (1, 1)
    assert notes.get("notes", ["a"]) == [None]


def test_a_stream_acknowledges_each_batch_and_survives_a_bad_one(
    notes: Client, stub: collection_service_pb2_grpc.CollectionServiceStub
) -> None:
    def requests() -> Iterator[collection_service_pb2.UpsertRecordsStreamRequest]:
        for identifier, text in [("a", "one"), ("b", " "), ("a", "two")]:
            request = collection_service_pb2.UpsertRecordsStreamRequest()
            request.batch.collection = "notes"
            request.batch.records.add(id=identifier, input=embedding_pb2.Input(text=text))
            yield request

    replies = list(stub.UpsertRecordsStream(requests()))
    assert [reply.batch_index for reply in replies] == [0, 1, 2]
    assert [reply.WhichOneof("result") for reply in replies] == ["outcome", "error", "outcome"]
    assert (replies[0].outcome.sequence, replies[2].outcome.sequence) == (1, 2)
    found = notes.get("notes", ["a"], with_vectors=True)[0]
    assert found is not None
    np.testing.assert_array_equal(found.vector, vector_of("two"))


def test_a_reply_that_does_not_fit_a_message_is_refused_with_a_remedy(client: Client) -> None:
    client.create_collection("wide", dimension=65_536)
    vectors = np.ones((130, 65_536), np.float32)
    ids = [f"{row:03}" for row in range(130)]
    client.upsert("wide", ids, vectors=vectors)
    with pytest.raises(InvalidArgumentError, match="more than a message's 33554432; ask for less") as caught:
        client.get("wide", ids, with_vectors=True)
    assert caught.value.reason == "INPUT_TOO_LARGE"

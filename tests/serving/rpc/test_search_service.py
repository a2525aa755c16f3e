from __future__ import annotations

from collections.abc import Set
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from diptych.client.errors import InvalidArgumentError, NotFoundError, PreconditionError
from diptych.client.sync import Client
from diptych.client.types import StoredRecord
from diptych.v1 import embedding_pb2, search_service_pb2, search_service_pb2_grpc
from models.bundle.encoder import Prepared
from tests.serving.fake_encoders import FakeEncoder, vector_of

TEXTS = [f"text {row}" for row in range(30)]
IDS = [f"id-{row}" for row in range(30)]
VECTORS = np.stack([vector_of(text) for text in TEXTS])


@pytest.fixture
def notes(client: Client) -> Client:
    client.create_collection("notes", encoder="words", retain_sources=True)
    client.upsert("notes", IDS, texts=TEXTS, metadata=[{"row": row} for row in range(30)])
    return client


def expected(query: NDArray[Any], *, k: int, without: Set[int] = frozenset()) -> list[str]:
    scores = VECTORS @ (query / np.linalg.norm(query))
    return [IDS[row] for row in np.argsort(-scores, kind="stable") if row not in without][:k]


def test_a_text_finds_the_nearest_by_the_score_of_the_collection(notes: Client) -> None:
    found = notes.search("notes", text="text 7", k=5)
    assert list(found.ids) == expected(VECTORS[7], k=5)
    assert found.ids[0] == "id-7"
    rows = [IDS.index(identifier) for identifier in found.ids]
    np.testing.assert_allclose(found.scores, VECTORS[rows] @ VECTORS[7], atol=1e-6)
    assert found.versions.tolist() == [row + 1 for row in rows]


def test_a_vector_finds_the_same(notes: Client) -> None:
    query = np.arange(8.0) - 3
    found = notes.search("notes", vector=query, space="space-of-words", k=4)
    assert list(found.ids) == expected(query, k=4)


def test_a_vector_must_be_of_the_collection_s_space(notes: Client) -> None:
    for space in ("", "space-of-pictures"):
        with pytest.raises(PreconditionError) as caught:
            notes.search("notes", vector=np.ones(8), space=space)
        assert caught.value.reason == "SPACE_MISMATCH"


def test_a_stored_record_is_not_its_own_neighbour(notes: Client) -> None:
    found = notes.search("notes", record="id-3", k=4)
    assert list(found.ids) == expected(VECTORS[3], k=4, without={3})


def test_examples_are_the_mean_of_these_minus_the_mean_of_those(notes: Client) -> None:
    found = notes.search("notes", positives=["text 1", StoredRecord("id-2")], negatives=[StoredRecord("id-5")], k=6)
    query = (VECTORS[1] + VECTORS[2]) / 2 - VECTORS[5]
    assert list(found.ids) == expected(query, k=6, without={2, 5})


def test_each_example_counts_the_same_however_long_its_vector(notes: Client) -> None:
    found = notes.search("notes", positives=[VECTORS[1] * 100, VECTORS[2], VECTORS[3]], space="space-of-words", k=3)
    assert list(found.ids) == expected(VECTORS[1] + VECTORS[2] + VECTORS[3], k=3)


def test_examples_that_cancel_out_are_refused(notes: Client) -> None:
    with pytest.raises(InvalidArgumentError, match="cancel out"):
        notes.search("notes", positives=["text 1"], negatives=["text 1"])


def test_queries_and_documents_are_embedded_for_their_purpose(
    client: Client, words: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.create_collection("notes", encoder="words")
    seen: list[str] = []
    prepare = words.prepare

    def note(item: str | bytes, **options: object) -> Prepared:
        seen.append(f"{options['purpose']}: {item!r}")
        return prepare(item, **options)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(words, "prepare", note)
    client.upsert("notes", ["a"], texts=["doc"])
    client.search("notes", text="asked")
    client.search("notes", positives=["like this"])
    assert seen == ["document: 'doc'", "query: 'asked'", "document: 'like this'"]


def test_a_threshold_cuts_what_is_further(notes: Client) -> None:
    scores = np.sort(VECTORS @ VECTORS[7])[::-1]
    threshold = float(scores[3] + scores[4]) / 2
    assert len(notes.search("notes", text="text 7", k=20, score_threshold=threshold)) == 4


def test_parts_come_along_as_parallel_arrays(notes: Client) -> None:
    found = notes.search("notes", text="text 7", k=3, with_vectors=True, with_metadata=True, with_sources=True)
    rows = [IDS.index(identifier) for identifier in found.ids]
    np.testing.assert_array_equal(found.vectors, VECTORS[rows])
    assert found.metadata == [{"row": row} for row in rows]
    assert found.sources == [TEXTS[row].encode() for row in rows]
    bare = notes.search("notes", text="text 7", k=3)
    assert (bare.vectors, bare.metadata, bare.sources) == (None, None, None)


def test_a_write_is_seen_by_the_next_search(notes: Client) -> None:
    written = notes.upsert("notes", ["new"], texts=["something else"])
    found = notes.search("notes", text="something else", k=1, min_sequence=written.sequence)
    assert list(found.ids) == ["new"]
    notes.delete("notes", ["new"])
    assert "new" not in notes.search("notes", text="something else", k=31).ids


def test_a_batch_answers_each_query_in_order(notes: Client) -> None:
    found = notes.batch_search("notes", texts=["text 7", "text 2", "text 7"], k=2)
    assert [list(one.ids) for one in found] == [expected(VECTORS[row], k=2) for row in (7, 2, 7)]
    by_record = notes.batch_search("notes", records=["id-7", "id-2"], k=2)
    assert [list(one.ids) for one in by_record] == [expected(VECTORS[row], k=2, without={row}) for row in (7, 2)]
    packed = notes.batch_search("notes", vectors=VECTORS[:3], space="space-of-words", k=1)
    assert [one.ids[0] for one in packed] == IDS[:3]


def test_a_bad_query_of_a_batch_is_its_own_error(notes: Client) -> None:
    found = notes.batch_search("notes", records=["id-1", "nobody", "id-2"], k=1, allow_partial=True)
    assert [len(one) for one in found] == [1, 0, 1]
    assert found[1].error is not None
    assert (found[1].error.reason, found[0].error) == ("RECORD_NOT_FOUND", None)
    with pytest.raises(NotFoundError, match="item 1: "):
        notes.batch_search("notes", records=["id-1", "nobody"])


@pytest.mark.parametrize(
    ("vector", "message"),
    [(np.zeros(8), "zero"), (np.full(8, np.nan), "NaN"), (np.ones(3), "8 dimensions, this one has shape")],
)
def test_a_vector_that_cannot_be_compared_is_refused(notes: Client, vector: NDArray[Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        notes.search("notes", vector=vector, space="space-of-words")


def test_a_collection_without_encoder_is_searched_by_vector_only(client: Client) -> None:
    client.create_collection("raw", dimension=2, metric="inner_product")
    client.upsert("raw", ["a", "b"], vectors=[[1, 0], [0, 3]])
    found = client.search("raw", vector=[1, 1])
    assert list(found) == [("b", 3.0), ("a", 1.0)]
    with pytest.raises(PreconditionError, match="collection 'raw' has no encoder"):
        client.search("raw", text="one")


def test_an_image_does_not_search_a_collection_of_texts(notes: Client) -> None:
    with pytest.raises(PreconditionError, match="encoder 'words' reads text only"):
        notes.search("notes", image=b"IMG a")


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"parameters": {"k": 10_001}}, grpc.StatusCode.INVALID_ARGUMENT, r"k \(10001\) must be in \[1, 10000\]"),
        ({"parameters": {"k": -1}}, grpc.StatusCode.INVALID_ARGUMENT, r"k \(-1\)"),
        ({"page_size": 5}, grpc.StatusCode.UNIMPLEMENTED, "pages are not offered"),
        ({"query": None}, grpc.StatusCode.INVALID_ARGUMENT, "query must be set"),
        ({"query": {}}, grpc.StatusCode.INVALID_ARGUMENT, "query is empty"),
        ({"query": {"examples": {}}}, grpc.StatusCode.INVALID_ARGUMENT, "at least one positive example"),
    ],
)
def test_a_malformed_search_is_refused(
    notes: Client, channel: grpc.Channel, change: dict[str, object], code: grpc.StatusCode, message: str
) -> None:
    query = search_service_pb2.Query(input=embedding_pb2.Input(text="a"))
    fields: dict[str, object] = {"collection": "notes", "query": query, **change}
    request = search_service_pb2.SearchRequest(**fields)  # type: ignore[arg-type]  # as the cases give them
    with pytest.raises(grpc.RpcError, match=message) as caught:
        search_service_pb2_grpc.SearchServiceStub(channel).Search(request)
    assert caught.value.code() is code


def test_a_batch_states_its_queries_in_one_form(notes: Client, channel: grpc.Channel) -> None:
    request = search_service_pb2.BatchSearchRequest(collection="notes")
    with pytest.raises(grpc.RpcError, match="either queries or vectors must be set"):
        search_service_pb2_grpc.SearchServiceStub(channel).BatchSearch(request)

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.collections.collection import Collection
from serving.collections.config import MAX_K
from serving.collections.types import IndexKind, Metric, RecordWrite
from serving.errors import DimensionMismatch, InputTooLarge, InvalidInput

Make = Callable[..., Collection]
Write = Callable[..., RecordWrite]
SPACE = "space-a"


def matrix(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, 8)).astype(np.float32)


def fill(collection: Collection, vectors: NDArray[np.float32], prefix: str = "r") -> dict[str, NDArray[np.float32]]:
    stored = {f"{prefix}{row}": vector for row, vector in enumerate(vectors)}
    collection.upsert([RecordWrite(id=name, vector=vector) for name, vector in stored.items()], space=SPACE)
    return stored


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("k", [1, 10, 200, 1_000])
def test_exact_search_equals_brute_force(
    make_collection: Make, assert_nearest: Callable[..., None], metric: Metric, k: int
) -> None:
    collection = make_collection(metric=metric, index=IndexKind.EXACT)
    stored = fill(collection, matrix(200))
    queries = matrix(5, seed=1)
    for query, hits in zip(queries, collection.search(queries, space=SPACE, k=k), strict=True):
        assert_nearest(hits, query, stored, k, metric)


@pytest.mark.parametrize("metric", list(Metric))
def test_search_through_base_and_tail_finds_what_brute_force_does(
    make_collection: Make, assert_nearest: Callable[..., None], metric: Metric
) -> None:
    collection = make_collection(metric=metric)
    stored = fill(collection, matrix(400))
    assert collection.settle(30)
    stored |= fill(collection, matrix(40, seed=2), prefix="new")
    stored |= fill(collection, matrix(30, seed=3))  # overwrites r0 to r29
    gone = [f"r{row}" for row in range(25, 60)]
    collection.delete(gone)
    for name in gone:
        del stored[name]

    info = collection.info()
    assert (info.index_kind, info.record_count, info.indexed_count) == (IndexKind.HNSW, 405, 340)
    queries = matrix(20, seed=4)
    for exact in (False, True):
        for query, hits in zip(queries, collection.search(queries, space=SPACE, k=5, exact=exact), strict=True):
            assert_nearest(hits, query, stored, 5, metric)


def test_a_score_is_the_same_through_a_graph_and_through_a_scan(make_collection: Make) -> None:
    collection = make_collection()
    fill(collection, matrix(400))
    queries = matrix(8, seed=1)
    before = collection.search(queries, space=SPACE, k=5, exact=True)
    assert collection.settle(30)
    for exact in (False, True):
        for old, new in zip(before, collection.search(queries, space=SPACE, k=5, exact=exact), strict=True):
            assert list(old.ids) == list(new.ids)
            assert old.scores.tobytes() == new.scores.tobytes()


@pytest.mark.parametrize(("metric", "best"), [(Metric.COSINE, 1.0), (Metric.L2, 0.0)])
def test_a_record_finds_itself_with_the_best_score_there_is(make_collection: Make, metric: Metric, best: float) -> None:
    collection = make_collection(metric=metric)
    stored = fill(collection, matrix(50))
    (hits,) = collection.search(stored["r7"][None], space=SPACE, k=1)
    assert list(hits.ids) == ["r7"]
    assert hits.scores[0] == pytest.approx(best, abs=1e-6)
    assert hits.scores[0] <= best


def test_equal_vectors_score_equally_and_come_in_the_order_written(notes: Collection) -> None:
    vectors = matrix(30)
    fill(notes, vectors, prefix="first")
    fill(notes, np.repeat(vectors[:1], 9, axis=0), prefix="twin")
    (hits,) = notes.search(vectors[:1], space=SPACE, k=6)
    assert list(hits.ids) == ["first0", "twin0", "twin1", "twin2", "twin3", "twin4"]
    assert len(set(hits.scores.tolist())) == 1
    assert hits.versions.tolist() == [1, 31, 32, 33, 34, 35]


def test_more_ties_than_wanted_are_cut_in_the_order_written(make_collection: Make) -> None:
    collection = make_collection(metric=Metric.INNER_PRODUCT)
    fill(collection, np.tile(np.eye(8, dtype=np.float32)[0], (280, 1)))
    (hits,) = collection.search(np.ones((1, 8), dtype=np.float32), space=SPACE, k=7)
    assert list(hits.ids) == [f"r{row}" for row in range(7)]


def test_a_threshold_leaves_out_what_scores_lower_and_keeps_what_equals_it(make_collection: Make, write: Write) -> None:
    collection = make_collection(metric=Metric.INNER_PRODUCT)
    collection.upsert([write(f"{x}", np.eye(8)[0] * x) for x in (1, 2, 3, 4)], space=SPACE)
    query = np.eye(8, dtype=np.float32)[:1]
    (hits,) = collection.search(query, space=SPACE, k=10, score_threshold=3.0)
    assert list(hits.ids) == ["4", "3"]
    assert list(collection.search(query, space=SPACE, k=10, score_threshold=9.0)[0].ids) == []


def test_l2_finds_near_neighbours_far_from_the_origin(make_collection: Make) -> None:
    # In float32, |q|^2 - 2qx + |x|^2 cancels to nothing here: the candidates must be taken within its rounding error.
    collection = make_collection(metric=Metric.L2)
    vectors = matrix(250) * np.float32(0.01) + np.float32(1_000)
    stored = fill(collection, vectors)
    query = vectors[17] + np.float32(0.003)
    (hits,) = collection.search(query[None], space=SPACE, k=5)
    expected = sorted(stored, key=lambda name: float(np.sum((stored[name].astype(np.float64) - query) ** 2)))[:5]
    assert list(hits.ids) == expected


def test_hits_carry_their_records_where_asked_for(notes: Collection, write: Write) -> None:
    notes.upsert([write("a", metadata={"n": 1}), write("b", metadata={"n": 2})], space=SPACE)
    notes.update_metadata("a", {"n": 3})
    (hits,) = notes.search(write("a").vector[None], space=SPACE, k=1, with_records=True)
    assert hits.records is not None
    assert [(r.id, r.version, dict(r.metadata)) for r in hits.records] == [("a", 3, {"n": 3})]
    assert hits.versions.tolist() == [3]
    assert notes.search(write("a").vector[None], space=SPACE, k=1)[0].records is None


def test_an_empty_collection_answers_every_query_with_nothing(notes: Collection) -> None:
    hits = notes.search(matrix(3), space=SPACE, k=5)
    assert [list(h.ids) for h in hits] == [[], [], []]
    hits = notes.search(matrix(2), space=SPACE, k=5, with_records=True)
    assert [list(h.ids) for h in hits] == [[], []]
    assert notes.search(matrix(0), space=SPACE, k=5) == []


def test_what_a_search_may_not_ask_is_refused(notes: Collection) -> None:
    with pytest.raises(InvalidInput, match="k "):
        notes.search(matrix(1), space=SPACE, k=0)
    with pytest.raises(InputTooLarge, match="10000"):
        notes.search(matrix(1), space=SPACE, k=MAX_K + 1)
    with pytest.raises(DimensionMismatch):
        notes.search(np.ones((1, 9), dtype=np.float32), space=SPACE, k=1)
    with pytest.raises(InvalidInput, match="NaN"):
        notes.search(matrix(1), space=SPACE, k=1, score_threshold=float("nan"))
    with pytest.raises(InvalidInput, match="query 0"):
        notes.search(np.full((1, 8), np.nan, dtype=np.float32), space=SPACE, k=1)


def test_many_deletions_in_the_base_never_shorten_an_answer(make_collection: Make) -> None:
    collection = make_collection()
    vectors = matrix(400)
    fill(collection, vectors)
    assert collection.settle(30)
    # The forty nearest of one query go: the graph must walk past all of them.
    (hits,) = collection.search(vectors[:1], space=SPACE, k=40, exact=True)
    collection.delete(list(hits.ids))
    (left,) = collection.search(vectors[:1], space=SPACE, k=30)
    (truth,) = collection.search(vectors[:1], space=SPACE, k=30, exact=True)
    assert len(left.ids) == 30
    assert not set(left.ids) & set(hits.ids)
    assert list(left.ids) == list(truth.ids)


def test_a_search_beside_writes_sees_a_batch_whole_or_not_at_all(notes: Collection) -> None:
    # Every batch moves all ten records to one axis; a search that saw half of one would find two axes.
    stop = threading.Event()
    eye = np.eye(8, dtype=np.float32)

    def rewrite() -> None:
        turn = 0
        while not stop.is_set():
            notes.upsert([RecordWrite(id=f"r{i}", vector=eye[turn % 8]) for i in range(10)], space=SPACE)
            turn += 1

    notes.upsert([RecordWrite(id=f"r{i}", vector=eye[0]) for i in range(10)], space=SPACE)
    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        for number in range(200):
            records = number % 4 == 0
            (hits,) = notes.search(np.ones((1, 8), np.float32), space=SPACE, k=20, with_records=records)
            versions = hits.versions.tolist()
            assert sorted(hits.ids) == [f"r{i}" for i in range(10)] or records
            assert max(versions, default=0) - min(versions, default=0) < 10
    finally:
        stop.set()
        writer.join()

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.collections.catalogue import CollectionCatalogue
from serving.collections.collection import Collection
from serving.collections.config import CollectionsConfig
from serving.collections.index.ann.effort import Effort
from serving.collections.index_types import IndexSpec, IndexStructure, Quantiser
from serving.collections.recall import RecallMeter, wilson_interval
from serving.collections.types import RecordWrite

Make = Callable[..., Collection]
SPACE = "space-a"
# Replays when a test says so.
STILL = CollectionsConfig(hnsw_min_records=500, search_threads=1, build_threads=1, recall_cpu_share=0)
LISTS = IndexSpec(structure=IndexStructure.IVF, quantiser=Quantiser.FLOAT32, lists=40)
COUNT = 2_000


def matrix(count: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, 8)).astype(np.float32)


def fill(collection: Collection) -> NDArray[np.float32]:
    vectors = matrix(COUNT, 0)
    collection.upsert([RecordWrite(id=f"r{i}", vector=v) for i, v in enumerate(vectors)], space=SPACE)
    assert collection.settle(60)
    return vectors


def search(collection: Collection, count: int, *, k: int = 10, seed: int = 1) -> list[list[str]]:
    return [list(collection.search(query[None], space=SPACE, k=k)[0].ids) for query in matrix(count, seed)]


def true_ids(vectors: NDArray[np.float32], query: NDArray[np.float32], k: int) -> set[str]:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return {f"r{row}" for row in np.argsort(-(unit @ query))[:k]}


@pytest.mark.parametrize("k", [3, 10, 40])
def test_the_figure_is_what_searches_found_of_the_true_ten_nearest(make_collection: Make, k: int) -> None:
    collection = make_collection(STILL, index=replace(LISTS, probes=2))
    vectors = fill(collection)
    assert collection.info().index.recall is None
    queries = matrix(40, 1)
    found = search(collection, 40, k=k)
    collection.recall.replay()
    shares = [
        len(set(ids[:10]) & true_ids(vectors, query, min(k, 10))) / min(k, 10)
        for ids, query in zip(found, queries, strict=True)
    ]
    estimate = collection.info().index.recall
    assert estimate is not None
    assert estimate.query_count == 40
    assert estimate.recall == pytest.approx(float(np.mean(shares)))
    assert 0.2 < estimate.low < estimate.recall < estimate.high < 1


def test_a_query_is_replayed_on_the_state_it_saw(make_collection: Make) -> None:
    collection = make_collection(STILL, index=replace(LISTS, probes=40))
    vectors = fill(collection)
    search(collection, 20)
    # All that was found is gone by the time it is replayed.
    collection.delete([f"r{row}" for row in range(0, COUNT, 2)])
    collection.upsert([RecordWrite(id=f"new{i}", vector=v) for i, v in enumerate(vectors[:300] + 0.01)], space=SPACE)
    collection.recall.replay()
    estimate = collection.info().index.recall
    assert estimate is not None
    assert (estimate.recall, estimate.query_count) == (1.0, 20)


def test_exact_searches_and_cut_lists_are_no_sample(make_collection: Make) -> None:
    collection = make_collection(STILL, index=LISTS)
    fill(collection)
    query = matrix(1, 1)
    collection.search(query, space=SPACE, k=10, exact=True)
    collection.search(query, space=SPACE, k=10, score_threshold=0.9)
    collection.recall.replay()
    assert collection.info().index.recall is None


def test_a_burst_waits_for_the_replay_in_bounded_room(make_collection: Make) -> None:
    collection = make_collection(STILL, index=LISTS)
    fill(collection)
    search(collection, 100)
    collection.recall.replay()
    assert collection.recall.replayed_count == 64


def test_another_effort_is_measured_anew(make_collection: Make) -> None:
    collection = make_collection(STILL, index=replace(LISTS, probes=1))
    fill(collection)
    search(collection, 60)
    collection.recall.replay()
    low = collection.info().index.recall
    collection._index.respec(replace(collection.definition.spec, index=replace(LISTS, probes=40)))
    search(collection, 20)
    collection.recall.replay()
    high = collection.info().index.recall
    assert low is not None
    assert high is not None
    assert (low.query_count, high.query_count, high.recall) == (60, 20, 1.0)
    assert low.recall < 0.8


def test_a_sabotaged_index_finds_back_to_its_recall(make_collection: Make) -> None:
    collection = make_collection(STILL, index=replace(LISTS, probes=20, target_recall=0.95))
    fill(collection)
    view = collection._index.view
    assert view.graph is not None
    view.graph.effort = Effort(probes=1)
    seen = []
    for turn in range(12):
        search(collection, 60, seed=turn)
        collection.recall.replay()
        estimate = collection.info().index.recall
        assert estimate is not None
        seen.append(estimate.recall)
    assert seen[0] < 0.6
    assert seen[-1] >= 0.95
    assert 1 < view.graph.effort.probes < 40
    # Once it holds, it stays as it is.
    probes = view.graph.effort.probes
    search(collection, 60, seed=99)
    collection.recall.replay()
    assert view.graph.effort.probes == probes


def test_without_a_target_nothing_is_raised(make_collection: Make) -> None:
    collection = make_collection(STILL, index=replace(LISTS, probes=1))
    fill(collection)
    search(collection, 60)
    collection.recall.replay()
    assert collection.info().index.probes == 1


def test_a_server_replays_by_itself(open_catalogue: Callable[..., CollectionCatalogue], make_collection: Make) -> None:
    collection = make_collection(replace(STILL, recall_cpu_share=0.5), index=LISTS)
    fill(collection)
    search(collection, 10)
    deadline = time.monotonic() + 60
    while collection.info().index.recall is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_interval_is_wilson_s() -> None:
    # Worked by hand: p = 0.9, n = 100, z = 1.96.
    assert wilson_interval(0.9, 100) == pytest.approx((0.8256, 0.9448), abs=1e-4)
    low, high = wilson_interval(1.0, 10)
    assert (round(low, 4), high) == (0.7225, 1.0)


def test_a_meter_of_nothing_says_nothing() -> None:
    meter = RecallMeter()
    meter.replay()
    assert meter.estimate() is None

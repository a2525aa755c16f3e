"""The choice between scan and index, and recall against exact truth whichever is chosen, on clustered vectors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.collections.columns.columns import Columns, places
from serving.collections.config import CollectionsConfig
from serving.collections.filters.conditions import Range
from serving.collections.index.ann.build import build_ann
from serving.collections.index.ann.plan import AnnPlan
from serving.collections.index.ann.search import Ann
from serving.collections.index.plan import plan_filtered
from serving.collections.index.rows import PackedIds, Rows
from serving.collections.index.view import IndexView
from serving.collections.index_types import IndexSpec, IndexStructure, Quantiser
from serving.collections.types import FieldDefinition, FieldType, Metric

RECORDS, DIMENSION, CLUSTERS, QUERIES, K = 6_000, 24, 40, 25, 10
SELECTIVITIES = [0.5, 0.05, 0.005, 0.0005]
KINDS = ["random", "near", "far", "clusters"]
CONFIG = CollectionsConfig(search_threads=1, build_threads=1)


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return rows


class Indexed:
    """Clustered vectors, queries from among them, an index over them, and one float field with four kinds of order."""

    def __init__(self, folder: Path, plan: AnnPlan) -> None:
        self.rng = np.random.default_rng(5)
        centres = self.rng.standard_normal((CLUSTERS, DIMENSION))
        self.cluster = self.rng.integers(CLUSTERS, size=RECORDS)
        spread = 0.35 * self.rng.standard_normal((RECORDS + QUERIES, DIMENSION))
        owners = np.concatenate((self.cluster, self.rng.integers(CLUSTERS // 4, size=QUERIES)))
        every = unit(centres[owners] + spread)
        self.vectors, self.queries = every[:RECORDS], every[RECORDS:]
        path = folder / "index.faiss"
        shape = build_ann(
            self.vectors, path, plan, metric=Metric.COSINE, scale=1.0, config=CONFIG, progress=lambda _share: True
        )
        assert shape is not None
        self.graph = Ann(path, plan, IndexSpec(), CONFIG, shape=shape)
        # What a filter "field < share of the records" lets through, in which order.
        mean = unit(self.queries.mean(axis=0, keepdims=True).astype(np.float64))[0]
        closeness = self.vectors @ mean
        self.orders = {
            "random": self.rng.random(RECORDS),
            "near": -closeness,
            "far": closeness,
            "clusters": self.rng.permutation(CLUSTERS)[self.cluster] + self.rng.random(RECORDS) / 2,
        }

    def view(self, kind: str, scan_ratio: float) -> IndexView:
        keys = np.arange(1, RECORDS + 1)
        ranks = np.argsort(np.argsort(self.orders[kind]))
        columns = Columns([FieldDefinition("rank", FieldType.INTEGER)])
        columns.append([{"rank": rank} for rank in ranks.tolist()])
        columns.arrange(places(keys, keys), np.empty(0, np.int64))
        base = Rows(
            vectors=self.vectors,
            sq_norms=np.ones(RECORDS, np.float32),
            keys=keys,
            versions=keys,
            ids=PackedIds(np.full(RECORDS, ord("x"), dtype=np.uint8), keys),
            alive=None,
        )
        return IndexView(
            metric=Metric.COSINE,
            sequence=RECORDS,
            base=base,
            graph=self.graph,
            base_bits=None,
            base_alive_count=RECORDS,
            tail=(),
            tail_alive_count=0,
            damaged=(),
            columns=columns.view(),
            scan_ratio=scan_ratio,
        )


PLANS = [
    AnnPlan(structure=IndexStructure.HNSW, quantiser=Quantiser.FP16, hnsw_m=32),
    AnnPlan(structure=IndexStructure.IVF, quantiser=Quantiser.SQ8, lists=64),
]


@pytest.fixture(scope="module", params=PLANS, ids=lambda plan: plan.name)
def indexed(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Indexed:
    return Indexed(tmp_path_factory.mktemp("index"), request.param)


def recall(view: IndexView, queries: NDArray[np.float32], count: int) -> float:
    matching = view.matching(Range(field="rank", less=count))
    assert matching.living_count == count
    truth = matching.search(queries, K, exact=True, score_threshold=None)
    answers = matching.search(queries, K, exact=False, score_threshold=None)
    shared = [len(set(a.keys.tolist()) & set(t.keys.tolist())) for a, t in zip(answers, truth, strict=True)]
    assert all(len(answer.ids) == min(K, count) for answer in answers)
    return sum(shared) / sum(len(one.keys) for one in truth)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", SELECTIVITIES)
@pytest.mark.parametrize("scan_ratio", [0, 20], ids=["graph", "planned"])
def test_recall_holds_at_every_selectivity(indexed: Indexed, kind: str, share: float, scan_ratio: float) -> None:
    assert recall(indexed.view(kind, scan_ratio), indexed.queries, max(1, int(share * RECORDS))) >= 0.95


def test_the_exact_truth_is_that_of_brute_force(indexed: Indexed) -> None:
    matching = indexed.view("random", 0).matching(Range(field="rank", less=300))
    chosen = np.flatnonzero(np.argsort(np.argsort(indexed.orders["random"])) < 300)
    scores = indexed.queries @ indexed.vectors[chosen].T
    expected = chosen[np.argsort(-scores, axis=1)[:, :K]] + 1
    for found, keys in zip(
        matching.search(indexed.queries, K, exact=True, score_threshold=None), expected, strict=True
    ):
        assert found.keys.tolist() == keys.tolist()


class CountingGraph:
    def __init__(self, graph: Ann) -> None:
        self.graph = graph
        self.asked: list[int] = []

    def candidates(
        self, queries: NDArray[np.float32], count: int, bits: NDArray[np.uint8] | None, *, is_wide: bool = False
    ) -> object:
        self.asked.append(count)
        return self.graph.candidates(queries, count, bits, is_wide=is_wide)


@pytest.mark.parametrize(("share", "scan_ratio", "asked"), [(0.5, 0, [51]), (0.05, 0, [510]), (0.05, 20, [])])
def test_many_matches_are_asked_of_the_graph_and_few_are_scanned(
    indexed: Indexed, share: float, scan_ratio: float, asked: list[int]
) -> None:
    graph = CountingGraph(indexed.graph)
    view = replace(indexed.view("random", scan_ratio), graph=graph)  # type: ignore[arg-type] # counts what it is asked
    matching = view.matching(Range(field="rank", less=int(share * RECORDS)))
    matching.search(indexed.queries[:1], K, exact=False, score_threshold=None)
    assert graph.asked == asked


def turning_point(rows: int, *, k: int = 10, queries: int = 1) -> int:
    """The most matches that are scanned."""

    def scans(matching: int) -> bool:
        return plan_filtered(
            k=k, query_count=queries, matching_count=matching, row_count=rows, scan_ratio=20, widest_share=0.1
        ).scan

    # Very few matches would need too many candidates.
    return max(count for count in range(0, rows, rows // 1_000) if scans(count))


def test_the_share_up_to_which_matches_are_scanned_falls_with_the_size_and_rises_with_k() -> None:
    points = [turning_point(rows) / rows for rows in (10**4, 10**5, 10**6)]
    np.testing.assert_allclose(points, [0.225, 0.071, 0.022], atol=0.002)
    assert turning_point(10**5, k=100) == 16_500
    assert turning_point(10**5, queries=64) > 7_100


def test_nothing_that_matches_is_found_nowhere(indexed: Indexed) -> None:
    matching = indexed.view("random", 0).matching(Range(field="rank", less=0))
    assert [found.ids for found in matching.search(indexed.queries, K, exact=False, score_threshold=None)] == (
        [[]] * QUERIES
    )

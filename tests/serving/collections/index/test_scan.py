from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.collections.index.rows import PackedIds, Rows
from serving.collections.index.scan import _Shortlist, scan_candidates
from serving.collections.index.scoring import approximate_scores, exact_scores, rounding_error
from serving.collections.types import Metric


def rows(vectors: NDArray[np.float32], alive: NDArray[np.bool_] | None = None) -> Rows:
    keys = np.arange(len(vectors))
    return Rows(
        vectors=vectors,
        sq_norms=np.einsum("rd,rd->r", vectors, vectors),
        keys=keys,
        versions=keys,
        ids=PackedIds(np.empty(0, dtype=np.uint8), np.zeros(len(vectors), dtype=np.int64)),
        alive=alive,
    )


def normal(count: int, dimension: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
def test_approximate_scores_lie_within_the_stated_error(metric: Metric, scale: float) -> None:
    queries, vectors = normal(20, 384, 0) * np.float32(scale), normal(500, 384, 1) * np.float32(scale)
    part = rows(vectors)
    exact = np.stack([exact_scores(query, vectors, metric) for query in queries]).astype(np.float64)
    if metric is Metric.COSINE:
        exact = queries.astype(np.float64) @ vectors.astype(np.float64).T
    deviation = np.abs(approximate_scores(queries, part, metric) - exact)
    assert np.all(deviation <= rounding_error(queries, part, metric)[:, None])


@pytest.mark.parametrize("metric", [Metric.INNER_PRODUCT, Metric.L2])
@pytest.mark.parametrize("k", [1, 7, 100, 30_000])
def test_the_best_are_among_the_candidates_over_parts_blocks_and_dead_rows(metric: Metric, k: int) -> None:
    queries, vectors = normal(5, 8, 0), normal(20_000, 8, 1)
    alive = np.random.default_rng(2).random(20_000) < 0.7
    parts = [rows(vectors[:300], alive[:300]), rows(vectors[300:17_000], alive[300:17_000]), rows(vectors[17_000:])]
    alive[17_000:] = True

    found = scan_candidates(queries, parts, k, metric)

    for query, candidates in zip(queries, found, strict=True):
        scores = exact_scores(query, vectors, metric).astype(np.float64)
        scores[~alive] = -np.inf
        count = min(k, int(alive.sum()))
        kth = np.sort(scores)[-count]
        assert set(np.flatnonzero(scores >= kth)) <= set(candidates.tolist())
        assert alive[candidates].all()
        assert len(candidates) <= count + 5
        assert np.all(np.diff(candidates) > 0)


def test_all_of_a_tie_are_candidates() -> None:
    vectors = np.tile(normal(1, 8, 0), (10_000, 1))
    (found,) = scan_candidates(vectors[:1], [rows(vectors)], 3, Metric.COSINE)
    assert len(found) == 10_000


def test_a_row_that_rounding_may_have_put_behind_stays_a_candidate() -> None:
    # Within an error of 1, scores of 10 and 8.5 may stand for 9 and 9.5; those of 10 and 7.5 may not.
    shortlist = _Shortlist(query_count=1, k=1)
    shortlist.add(np.array([[10, 8.5, 7.5]], dtype=np.float32), np.array([1.0]), np.arange(3))
    shortlist.add(np.array([[8.5, 7.5]], dtype=np.float32), np.array([1.0]), np.arange(3, 5))
    assert [rows.tolist() for rows in shortlist.of_each_query()] == [[0, 1, 3]]


def test_nothing_to_scan_gives_no_candidates() -> None:
    assert [len(found) for found in scan_candidates(normal(2, 8, 0), [], 3, Metric.L2)] == [0, 0]


def test_equal_vectors_score_equally_whatever_lies_beside_them() -> None:
    query, vectors = normal(1, 384, 0)[0], normal(101, 384, 1)
    for metric in Metric:
        alone = np.concatenate([exact_scores(query, vectors[row : row + 1], metric) for row in range(101)])
        assert alone.tobytes() == exact_scores(query, vectors, metric).tobytes()


def test_reported_scores_are_the_metric_s_own() -> None:
    query = np.array([1, 2], dtype=np.float32)
    vectors = np.array([[3, 4], [1, 2]], dtype=np.float32)
    assert exact_scores(query, vectors, Metric.INNER_PRODUCT).tolist() == [11, 5]
    assert exact_scores(query, vectors, Metric.L2).tolist() == [-8, 0]
    assert exact_scores(query, vectors / np.float32(5), Metric.COSINE).tolist() == [1, 1]

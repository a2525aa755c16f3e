"""Retrieval ranks with several right answers, ties and self-exclusion."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation import retrieval
from training.evaluation.retrieval import rank_retrieval


def test_any_item_with_the_query_id_is_right() -> None:
    gallery = np.array([[1, 0], [0.8, 0.6], [0, 1]], dtype=np.float32)
    query = np.array([[1, 0.1]], dtype=np.float32)
    assert rank_retrieval(query, gallery, np.array([5]), np.array([5, 9, 9])).tolist() == [1]
    assert rank_retrieval(query, gallery, np.array([9]), np.array([5, 9, 9])).tolist() == [2]
    assert rank_retrieval(query, gallery, np.array([7]), np.array([5, 9, 7])).tolist() == [3]


def test_ties_are_wrong() -> None:
    gallery = np.ones((4, 3), dtype=np.float32)
    assert rank_retrieval(gallery[:1], gallery, np.array([0]), np.arange(4)).tolist() == [4]


def test_scores_are_cosines() -> None:
    gallery = np.array([[100.0, 0.0], [0.1, 0.1]], dtype=np.float32)
    query = np.array([[1.0, 0.9]], dtype=np.float32)
    assert rank_retrieval(query, gallery, np.array([1]), np.array([0, 1])).tolist() == [1]


def test_query_itself_is_neither_right_nor_wrong() -> None:
    vectors = np.array([[1, 0], [0.9, 0.1], [0, 1]], dtype=np.float32)
    ids = np.array([0, 1, 0])
    assert rank_retrieval(vectors, vectors, ids, ids).tolist() == [1, 1, 1]
    assert rank_retrieval(vectors[[0]], vectors, ids[[0]], ids, own_rows=np.array([0])).tolist() == [2]


def test_blocks_do_not_change_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(33, 8)).astype(np.float32), rng.normal(size=(20, 8)).astype(np.float32)
    ids, own = rng.integers(0, 20, size=33), rng.integers(0, 20, size=33)
    own[own == ids] = (ids[own == ids] + 1) % 20
    whole = rank_retrieval(queries, gallery, ids, np.arange(20), own)
    monkeypatch.setattr(retrieval, "_SCORES_PER_BLOCK", 50)
    assert np.array_equal(whole, rank_retrieval(queries, gallery, ids, np.arange(20), own))


def test_common_rotation_leaves_ranks() -> None:
    rng = np.random.default_rng(1)
    queries, gallery = rng.normal(size=(30, 6)).astype(np.float32), rng.normal(size=(30, 6)).astype(np.float32)
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0].astype(np.float32)
    ids = np.arange(30)
    assert np.array_equal(
        rank_retrieval(queries, gallery, ids, ids), rank_retrieval(queries @ rotation, gallery @ rotation, ids, ids)
    )


def test_query_without_an_answer_is_refused() -> None:
    vectors = np.eye(2, dtype=np.float32)
    with pytest.raises(ValueError, match="no positive"):
        rank_retrieval(vectors, vectors, np.array([0, 3]), np.array([0, 1]))


def test_missing_ids_are_refused() -> None:
    vectors = np.eye(2, dtype=np.float32)
    with pytest.raises(ValueError, match="each vector needs an id"):
        rank_retrieval(vectors, vectors, np.array([0]), np.array([0, 1]))

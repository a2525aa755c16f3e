"""Unit rows and scores, dense and sparse alike."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from training.evaluation.knn import NeighbourVote, predict_labels
from training.evaluation.next_sentence import rank_next_sentences
from training.evaluation.retrieval import rank_retrieval
from training.evaluation.vectors import Vectors, score_matrix, unit_rows


def dense_and_sparse(rows: int, *, seed: int) -> tuple[Vectors, Vectors]:
    rng = np.random.default_rng(seed)
    dense = (rng.normal(size=(rows, 30)) * (rng.random((rows, 30)) < 0.3)).astype(np.float32)
    return dense, csr_array(dense)


def test_rows_get_unit_length_and_zero_rows_stay() -> None:
    rows = unit_rows(np.array([[3, 4], [0, 0]], dtype=np.float32))
    assert np.asarray(rows) == pytest.approx(np.array([[0.6, 0.8], [0, 0]]))


def test_sparse_rows_equal_dense_ones() -> None:
    dense, sparse = dense_and_sparse(12, seed=0)
    unit = unit_rows(sparse)
    assert isinstance(unit, csr_array)
    assert unit.toarray() == pytest.approx(np.asarray(unit_rows(dense)))


def test_equal_vectors_get_equal_scores_at_any_place() -> None:
    rng = np.random.default_rng(1)
    vector = rng.normal(size=(1, 383)).astype(np.float32)
    scores = score_matrix(rng.normal(size=(7, 383)).astype(np.float32), np.repeat(vector, 131, axis=0))
    assert np.array_equal(scores, np.repeat(scores[:, :1], 131, axis=1))


def test_metrics_give_the_same_for_sparse_vectors() -> None:
    (dense, sparse), (bank, sparse_bank) = dense_and_sparse(25, seed=2), dense_and_sparse(25, seed=3)
    ids, labels = np.arange(25), np.arange(25) % 3
    assert np.array_equal(rank_retrieval(dense, bank, ids, ids), rank_retrieval(sparse, sparse_bank, ids, ids))
    vote = NeighbourVote(k=5)
    assert np.array_equal(predict_labels(dense, bank, labels, vote), predict_labels(sparse, sparse_bank, labels, vote))
    documents = ids // 5
    assert np.array_equal(
        rank_next_sentences(dense, dense, documents, ids, pool_size=10).ranks,
        rank_next_sentences(sparse, sparse, documents, ids, pool_size=10).ranks,
    )


def test_vectors_that_are_no_matrix_are_refused() -> None:
    with pytest.raises(ValueError, match="must be a matrix"):
        unit_rows(np.zeros(3, dtype=np.float32))

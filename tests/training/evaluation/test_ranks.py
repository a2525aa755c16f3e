"""Ranks against a loop, and ties against the subject."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.ranks import mean_reciprocal_rank, pessimistic_ranks, recall_at


def test_rank_counts_negatives_at_or_above_the_best_positive() -> None:
    scores = np.array([[0.9, 0.8, 0.8, 0.1]], dtype=np.float32)
    positives = np.array([[False, True, False, False]])
    assert pessimistic_ranks(scores, positives).tolist() == [3]


def test_best_of_several_positives_counts() -> None:
    scores = np.array([[0.2, 0.9, 0.5]], dtype=np.float32)
    positives = np.array([[True, True, False]])
    assert pessimistic_ranks(scores, positives).tolist() == [1]


def test_excluded_candidates_do_not_count() -> None:
    scores = np.array([[1.0, 0.5, 0.4]], dtype=np.float32)
    positives = np.array([[False, True, False]])
    excluded = np.array([[True, False, False]])
    assert pessimistic_ranks(scores, positives, excluded).tolist() == [1]


def test_ranks_equal_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 5, size=(40, 30)).astype(np.float32)  # few values: many ties
    positives = rng.random((40, 30)) < 0.1
    positives[:, 3] = True
    expected = []
    for row, answers in zip(scores, positives, strict=True):
        best = max(score for score, right in zip(row, answers, strict=True) if right)
        expected.append(1 + sum(1 for score, right in zip(row, answers, strict=True) if not right and score >= best))
    assert pessimistic_ranks(scores, positives).tolist() == expected


def test_query_without_a_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="query 1 has no positive"):
        pessimistic_ranks(np.zeros((2, 2), dtype=np.float32), np.array([[True, False], [False, False]]))


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        pessimistic_ranks(np.array([[np.nan, 1.0]], dtype=np.float32), np.array([[True, False]]))


def test_recall_and_mrr_of_known_ranks() -> None:
    ranks = np.array([1, 2, 4, 11], dtype=np.int64)
    assert recall_at(ranks, (1, 5, 10)) == {1: 0.25, 5: 0.75, 10: 0.75}
    assert mean_reciprocal_rank(ranks) == pytest.approx((1 + 1 / 2 + 1 / 4 + 1 / 11) / 4)


def test_no_ranks_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="no query was ranked"):
        mean_reciprocal_rank(np.array([], dtype=np.int64))

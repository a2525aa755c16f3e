"""Ranks of right answers, with ties counted against the one that is measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["mean_reciprocal_rank", "pessimistic_ranks", "recall_at"]

_NOTHING_RANKED = "no query was ranked; the data holds no query with an answer"


def pessimistic_ranks(
    scores: NDArray[np.float32], positives: NDArray[np.bool_], excluded: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Ranks each query's best positive behind every negative that scores at least as high.

    Args:
        scores: `[m, n]`, higher is closer.
        positives: `[m, n]`: which candidates answer which query; at least one a row.
        excluded: `[m, n]`: candidates that are neither; None for none.

    Returns:
        `[m]`, from 1: 1 means strictly above all negatives.

    Raises:
        ValueError: A query has no positive, a score is not finite, or a positive is excluded.

    Source: the convention "ties count as wrong" for pair retrieval.
    """
    if not np.isfinite(scores).all():
        raise ValueError("a score is NaN or infinite; the encoder has diverged or its output overflowed")
    answers = positives.any(axis=1)
    if not answers.all():
        raise ValueError(f"query {int(np.argmin(answers))} has no positive among its candidates; leave it out")
    if excluded is not None and bool((positives & excluded).any()):
        raise ValueError("a candidate cannot be both positive and excluded")
    best = np.where(positives, scores, -np.inf).max(axis=1, keepdims=True)  # [m, 1]
    negatives = ~positives if excluded is None else ~(positives | excluded)
    above: NDArray[np.int64] = ((scores >= best) & negatives).sum(axis=1, dtype=np.int64)
    return above + 1


def recall_at(ranks: NDArray[np.int64], cutoffs: Sequence[int]) -> dict[int, float]:
    """Returns, per cutoff k, the share of queries answered within the first k.

    Args:
        ranks: `[m]`, from 1, at least one.
        cutoffs: The values of k.

    Returns:
        k to R@k in [0, 1].

    Raises:
        ValueError: There are no ranks.
    """
    if len(ranks) == 0:
        raise ValueError(_NOTHING_RANKED)
    return {k: float((ranks <= k).mean()) for k in cutoffs}


def mean_reciprocal_rank(ranks: NDArray[np.int64]) -> float:
    """Returns the mean of 1 / rank, in (0, 1].

    Args:
        ranks: `[m]`, from 1, at least one.

    Returns:
        The mean reciprocal rank.

    Raises:
        ValueError: There are no ranks.
    """
    if len(ranks) == 0:
        raise ValueError(_NOTHING_RANKED)
    return float((1.0 / ranks).mean())

"""InfoNCE: tell the positive from the negatives by its score.

Source: van den Oord, Li & Vinyals 2018, "Representation learning with contrastive predictive coding", arXiv:1807.03748.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from training.losses.precision import full_precision

__all__ = ["candidate_scores", "info_nce_accuracy", "info_nce_loss", "queue_scores"]


def candidate_scores(queries: Tensor, candidates: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Scores each query against each candidate: `q_i · c_j / T`.

    Args:
        queries: `[n, d]`; unit rows where cosines are wanted, as they are otherwise.
        candidates: `[m, d]`, at least 1; a query's positive is one of them, all others are its negatives.
        temperature: Divides the products; positive.

    Returns:
        `[n, m]` fp32.

    Raises:
        ValueError: The widths differ, there is no candidate, or the temperature is not positive.
    """
    if queries.ndim != 2 or candidates.ndim != 2 or queries.shape[1] != candidates.shape[1] or not len(candidates):
        raise ValueError(
            f"queries and candidates must be [n, d] and [m, d], m >= 1, "
            f"got {list(queries.shape)} and {list(candidates.shape)}"
        )
    if temperature <= 0:
        raise ValueError(f"temperature ({temperature}) must be > 0")
    with full_precision(queries):
        return queries.float() @ candidates.float().T / temperature


def queue_scores(queries: Tensor, keys: Tensor, negatives: Tensor, *, temperature: float) -> Tensor:
    """Scores each query against its own key and against negatives that all queries share: `[q · k+, q · K-] / T`.

    Args:
        queries: `[n, d]`, unit rows; carries the gradient.
        keys: `[n, d]`, unit rows; row i is the positive of query i.
        negatives: `[k, d]`, unit rows; k may be 0.
        temperature: Divides the cosines; positive.

    Returns:
        `[n, 1 + k]` fp32; the positive is in column 0.

    Raises:
        ValueError: The shapes do not fit, or the temperature is not positive.
    """
    if queries.ndim != 2 or queries.shape != keys.shape or negatives.shape[1:] != queries.shape[1:]:
        raise ValueError(
            f"queries, keys and negatives must be [n, d], [n, d] and [k, d], "
            f"got {list(queries.shape)}, {list(keys.shape)} and {list(negatives.shape)}"
        )
    if temperature <= 0:
        raise ValueError(f"temperature ({temperature}) must be > 0")
    with full_precision(queries):
        exact = queries.float()
        positive = (exact * keys.float()).sum(dim=1, keepdim=True)
        return torch.cat([positive, exact @ negatives.float().T], dim=1) / temperature


def info_nce_loss(scores: Tensor, positives: Tensor) -> Tensor:
    """Picks each query's positive out of its candidates.

    `-s_ip + log sum_j exp(s_ij)`, the positive p among the j, averaged over the queries.

    Args:
        scores: `[n, m]`; -inf where a candidate is none of the query's.
        positives: `[n]` int64: each query's positive, in `[0, m)`.

    Returns:
        Scalar, fp32; log(m) where all scores are equal, 0 where a positive has no negative.

    Raises:
        ValueError: The shapes do not fit.

    Source: van den Oord et al. 2018, arXiv:1807.03748, equation 4.
    """
    if scores.ndim != 2 or positives.shape != scores.shape[:1]:
        raise ValueError(
            f"scores and positives must be [n, m] and [n], got {list(scores.shape)} and {list(positives.shape)}"
        )
    with full_precision(scores):
        return F.cross_entropy(scores.float(), positives)


@torch.no_grad()
def info_nce_accuracy(scores: Tensor, positives: Tensor) -> Tensor:
    """Measures how often the positive scores above every negative.

    Args:
        scores: `[n, m]`.
        positives: `[n]` int64: each query's positive, in `[0, m)`.

    Returns:
        Scalar in [0, 1], fp32; a tie counts as wrong, so that collapsed projections score 0.
    """
    reached = scores >= scores.gather(1, positives[:, None])
    return (reached.sum(dim=1) == 1).float().mean()

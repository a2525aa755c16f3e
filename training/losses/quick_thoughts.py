"""Quick-Thoughts: tell a sentence's neighbours from the other sentences of the block."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from training.losses.adjacency import Adjacency
from training.losses.precision import full_precision

__all__ = ["adjacency_scores", "pairwise_logistic_loss", "quick_thoughts_loss"]


def adjacency_scores(queries: Tensor, candidates: Tensor) -> Tensor:
    """Scores each sentence against each candidate by their inner product.

    Args:
        queries: `[n, d]`, f of each sentence, as it is: no normalisation in the paper.
        candidates: `[n, d]`, g of each sentence.

    Returns:
        `[n, n]` fp32: products of states with a thousand dimensions overflow fp16.

    Raises:
        ValueError: The shapes differ or are not `[n, d]`.
    """
    if queries.shape != candidates.shape or queries.ndim != 2:
        raise ValueError(
            f"queries and candidates must be two equal [n, d], got {list(queries.shape)} and {list(candidates.shape)}"
        )
    with full_precision(queries):
        return queries.float() @ candidates.float().T


def quick_thoughts_loss(scores: Tensor, adjacency: Adjacency) -> Tensor:
    """Picks each sentence's neighbours out of all sentences of the block.

    Cross-entropy between the targets, uniform over a row's positives, and the softmax over its positives and
    negatives; the mean over the rows that have a positive.

    Args:
        scores: `[n, n]`: row i holds f(s_i) · g(s_j).
        adjacency: Targets and candidates of the block.

    Returns:
        Scalar, fp32; log(candidates) where all scores are equal; 0, without gradient, where no row has a positive.

    Raises:
        ValueError: `scores` and `adjacency` differ in shape.

    Source: Logeswaran & Lee 2018, arXiv:1803.02893. Differs: the authors' code leaves the sentence itself in the
        softmax with a score of 0 and lets neighbours cross document borders; here it is excluded (-inf), targets
        end with the document, and copies of the sentence or of its positives are no candidates.
    """
    if scores.shape != adjacency.positives.shape:
        raise ValueError(f"scores {list(scores.shape)} and adjacency {list(adjacency.positives.shape)} differ in shape")
    positives = adjacency.positives
    with full_precision(scores):
        allowed = scores.float().masked_fill(~(positives | adjacency.negatives), float("-inf"))
        has_target = positives.any(dim=1)
        # A row without any candidate would be all -inf, whose gradient is NaN; such rows have no target either.
        log_chances = allowed.masked_fill(~has_target[:, None], 0.0).log_softmax(dim=1)
        per_row = -log_chances.masked_fill(~positives, 0.0).sum(dim=1) / positives.sum(dim=1).clamp_min(1)
        return per_row.sum() / has_target.sum().clamp_min(1)


def pairwise_logistic_loss(scores: Tensor, adjacency: Adjacency) -> Tensor:
    """Lifts each positive's score over each negative's, pair by pair.

    `log(1 + exp(negative - positive))`, averaged over a sentence's negatives, then its positives, then the sentences
    that have both: the expectation over one negative drawn at random. With one positive and one negative it equals
    `quick_thoughts_loss`. The difference itself, to which it tends for large values, is unbounded below and no loss.

    Args:
        scores: `[n, n]`: row i holds f(s_i) · g(s_j).
        adjacency: Targets and candidates of the block.

    Returns:
        Scalar, fp32; log 2 where all scores are equal; 0, without gradient, where no row has a positive and a negative.

    Raises:
        ValueError: `scores` and `adjacency` differ in shape.
    """
    if scores.shape != adjacency.positives.shape:
        raise ValueError(f"scores {list(scores.shape)} and adjacency {list(adjacency.positives.shape)} differ in shape")
    negative_count = adjacency.negatives.sum(dim=1)
    # Rows without negatives keep no positives, so that they weigh nothing.
    kept = adjacency.positives & (negative_count > 0)[:, None]
    rows, columns = kept.nonzero(as_tuple=True)  # m pairs
    with full_precision(scores):
        exact = scores.float()
        differences = exact[rows] - exact[rows, columns][:, None]  # [m, n]
        # Multiplied rather than masked with infinities: the gradient of the rest stays an exact zero.
        terms = F.softplus(differences) * adjacency.negatives[rows]
        per_pair = terms.sum(dim=1) / negative_count[rows].clamp_min(1)
        weights = 1.0 / kept.sum(dim=1).clamp_min(1)[rows]
        return torch.sum(per_pair * weights) / kept.any(dim=1).sum().clamp_min(1)

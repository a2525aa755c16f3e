"""k-nearest-neighbour accuracy: weighted as InstDisc and MoCo report it, plain as MSF does.

Both sides must come from the encoder in eval mode with the test preprocessing; no label is learned from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from training.evaluation.vectors import Vectors, row_count, score_matrix, unit_rows

__all__ = ["NeighbourVote", "neighbour_votes", "predict_labels"]

_SCORES_PER_BLOCK = 32_000_000
"""Similarities held at once: 256 MB of float64."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NeighbourVote:
    """How neighbours decide."""

    k: int = 20
    """Neighbours asked, at least 1 and at most the bank."""
    temperature: float | None = 0.07
    """A neighbour of cosine s has exp(s / temperature) votes; None: one vote each. At least 0.01."""

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if self.k < 1:
            raise ValueError(f"k ({self.k}) must be at least 1")
        if self.temperature is not None and self.temperature < 0.01:
            raise ValueError(f"temperature ({self.temperature}) must be at least 0.01; 0.07 and 0.1 are usual")


def predict_labels(
    queries: Vectors,
    bank: Vectors,
    bank_labels: NDArray[np.int64],
    vote: NeighbourVote,
    own_rows: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Predicts each query's label from its nearest bank rows by cosine.

    Equal votes go to the class of the nearer neighbour.

    Args:
        queries: `[m, d]`.
        bank: `[n, d]`.
        bank_labels: `[n]`, at least 0.
        vote: Number and weight of neighbours.
        own_rows: `[m]`: the bank row that is the query itself, which is not asked; None where the two are disjoint.

    Returns:
        `[m]`: predicted labels.

    Raises:
        ValueError: `k` exceeds the bank, or a label is negative.

    Source: Wu et al. 2018, arXiv:1805.01978 (weighted vote, k 200, temperature 0.07 to 0.1). Differs: ties.
    """
    bank_count = row_count(bank)
    available = bank_count - (own_rows is not None)
    if vote.k > available:
        raise ValueError(f"k ({vote.k}) exceeds the {available} bank items a query may ask; choose a smaller k")
    if len(bank_labels) != bank_count or (bank_labels < 0).any():
        raise ValueError("every bank item needs a label of at least 0; leave unlabelled items out")
    class_count = int(bank_labels.max()) + 1
    unit_bank, unit_queries = unit_rows(bank), unit_rows(queries)
    block = max(1, _SCORES_PER_BLOCK // bank_count)
    predictions = []
    for start in range(0, row_count(queries), block):
        scores = torch.from_numpy(score_matrix(unit_queries[start : start + block], unit_bank))  # [b, n]
        if own_rows is not None:
            own = torch.from_numpy(own_rows[start : start + block])
            scores[torch.arange(len(scores)), own] = -torch.inf
        similarities, rows = (part.numpy() for part in scores.topk(vote.k, dim=1))
        labels = bank_labels[rows]  # [b, k]
        predictions.append(_decide(neighbour_votes(similarities, labels, class_count, vote.temperature), labels))
    return np.concatenate(predictions)


def neighbour_votes(
    similarities: NDArray[np.float32], labels: NDArray[np.int64], class_count: int, temperature: float | None
) -> NDArray[np.float64]:
    """Adds up the neighbours' votes per class.

    Args:
        similarities: `[m, k]` cosines.
        labels: `[m, k]`: the neighbours' classes.
        class_count: Number of classes.
        temperature: Divides the cosines before exp; None for one vote each.

    Returns:
        `[m, class_count]`.
    """
    votes = np.ones(labels.shape) if temperature is None else np.exp(similarities.astype(np.float64) / temperature)
    cells = labels + np.arange(len(labels))[:, None] * class_count
    totals: NDArray[np.float64] = np.bincount(
        cells.ravel(), weights=votes.ravel(), minlength=len(labels) * class_count
    ).astype(np.float64)
    return totals.reshape(len(labels), class_count)


def _decide(votes: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Takes the class with most votes; among equals, that of the nearest neighbour."""
    leading = votes >= votes.max(axis=1, keepdims=True) * (1 - 1e-12)
    first = np.take_along_axis(leading, labels, axis=1).argmax(axis=1)  # nearest neighbour of a leading class
    chosen: NDArray[np.int64] = labels[np.arange(len(labels)), first]
    return chosen

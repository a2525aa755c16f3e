"""Nearest rows of a bank, and the mean distance to them: what the mean-shift family shares."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.losses.precision import full_precision

__all__ = ["Neighbours", "mean_distance", "nearest_neighbours"]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest rows of a bank, nearest first."""

    slots: Tensor
    """`[n, k]` int64: rows of the bank."""
    valid: Tensor
    """`[n, k]` bool: False where fewer than k rows were allowed."""


@torch.no_grad()
def nearest_neighbours(queries: Tensor, bank: Tensor, *, count: int, allowed: Tensor | None = None) -> Neighbours:
    """Finds the rows of the bank nearest to each query.

    Args:
        queries: `[n, d]`, unit rows.
        bank: `[m, d]`, unit rows.
        count: Neighbours to return, in `[1, m]`.
        allowed: `[n, m]` bool: rows that may be a query's neighbours; None allows all.

    Returns:
        The neighbours, nearest first; constants, without gradient.

    Raises:
        ValueError: `count` is outside `[1, m]`.
    """
    if not 1 <= count <= bank.shape[0]:
        raise ValueError(f"neighbour count ({count}) must be in [1, {bank.shape[0]}], the rows of the bank")
    with full_precision(queries):
        scores = queries.float() @ bank.float().T  # nearest = largest cosine, as the rows are of unit length
    if allowed is not None:
        scores = scores.masked_fill(~allowed, float("-inf"))
    best = scores.topk(count, dim=1)
    return Neighbours(best.indices, best.values > float("-inf"))


def mean_distance(predictions: Tensor, bank: Tensor, neighbours: Neighbours) -> Tensor:
    """Averages each prediction's squared distance to its neighbours.

    Args:
        predictions: `[n, d]`, unit rows.
        bank: `[m, d]`, unit rows; constants, no gradient flows into them.
        neighbours: Rows of the bank for each prediction.

    Returns:
        `[n]` fp32: mean over the valid neighbours of `2 - 2 cos`, in [0, 4]; 0 where none is valid.
    """
    # The rows are copied out, so that the bank may be written before backward.
    rows = bank.detach()[neighbours.slots].float()  # [n, k, d]
    with full_precision(predictions):
        distances = 2 - 2 * torch.bmm(rows, predictions.float()[:, :, None])[:, :, 0]
    return (distances * neighbours.valid).sum(dim=1) / neighbours.valid.sum(dim=1).clamp_min(1)

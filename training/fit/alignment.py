"""How close positive pairs lie, read off a step's projections."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from training.methods.base import ImageBatch, TextBatch

__all__ = ["batch_alignment"]


def batch_alignment(batch: Any, projections: Tensor) -> dict[str, float]:
    """Returns the mean squared distance of positive pairs of unit projections.

    Args:
        batch: The step's batch.
        projections: `[n, d]`: a block's sentences, or, where a method projects both views, `[2n, d]`, view after view.

    Returns:
        `alignment`, in [0, 4], 0 where each pair coincides; empty where the projections show no pairs.

    Source: Wang & Isola 2020, arXiv:2005.10242, alpha 2.
    """
    unit = F.normalize(projections.float(), dim=1)
    if isinstance(batch, TextBatch) and len(unit) == len(batch.document):
        adjacent = (batch.document[1:] == batch.document[:-1]) & (batch.index[1:] == batch.index[:-1] + 1)
        first, second = unit[:-1][adjacent], unit[1:][adjacent]
    elif isinstance(batch, ImageBatch) and len(unit) == 2 * len(batch.index):
        first, second = unit.chunk(2)
    else:
        return {}
    return {"alignment": float((first - second).square().sum(dim=1).mean())} if len(first) else {}

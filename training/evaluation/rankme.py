"""RankMe: the effective rank of a set of embeddings, a label-free sign of collapse.

Compare only runs of one method: a higher rank is not a better encoder across methods.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["effective_rank", "rankme"]

_EPSILON = 1e-7


def rankme(embeddings: NDArray[np.float32]) -> float:
    """Computes the effective rank of embeddings, raw and un-centred.

    Args:
        embeddings: `[n, d]` with n at least d; 25,600 or more for a figure to compare with published ones.

    Returns:
        Between 1 (all on one line) and d.

    Raises:
        ValueError: There are fewer items than dimensions, or all are zero or not finite.

    Source: Garrido et al. 2023, arXiv:2210.02885.
    """
    if embeddings.ndim != 2 or len(embeddings) < embeddings.shape[1]:
        raise ValueError(f"RankMe needs at least as many items as dimensions, got shape {embeddings.shape}")
    if not np.isfinite(embeddings).all():
        raise ValueError("the embeddings hold NaN or infinity; the encoder has diverged")
    singular_values = torch.linalg.svdvals(torch.from_numpy(embeddings.astype(np.float64)))
    return effective_rank(singular_values.numpy())


def effective_rank(singular_values: NDArray[np.float64]) -> float:
    """Returns exp of the entropy of the normalised singular values.

    Args:
        singular_values: `[d]`, at least 0, one above 0.

    Returns:
        Between 1 and d.

    Raises:
        ValueError: All are zero.

    Source: Garrido et al. 2023, arXiv:2210.02885, eq. 1 (epsilon 1e-7).
    """
    total = float(singular_values.sum())
    if total <= 0:
        raise ValueError("all singular values are zero; the encoder gives zero vectors only")
    shares = singular_values / total + _EPSILON
    return float(np.exp(-(shares * np.log(shares)).sum()))

"""Linear CKA: how alike two encoders see the same items, whatever their widths and rotations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["linear_cka"]


def linear_cka(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Computes the centred kernel alignment of two sets of features.

    Args:
        one: `[n, d]`.
        other: `[n, e]`, of the same items in the same order.

    Returns:
        In [0, 1]; 1 where one is the other turned, scaled and moved. High by chance where n is not well above d and e.

    Raises:
        ValueError: The items differ in number, or one side is constant.

    Source: Kornblith et al. 2019, arXiv:1905.00414.
    """
    if len(one) != len(other):
        raise ValueError(f"CKA compares the same items, got {len(one)} and {len(other)}")
    left, right = (rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64) for rows in (one, other))
    scale = np.linalg.norm(left.T @ left) * np.linalg.norm(right.T @ right)
    if scale == 0:
        raise ValueError("one encoder gives the same vector for every item; it has collapsed")
    return float(np.linalg.norm(left.T @ right) ** 2 / scale)

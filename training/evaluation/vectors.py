"""Rows of unit length, the form every cosine metric compares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["unit_rows"]


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scales each row to length 1; a zero row stays zero.

    Args:
        vectors: `[n, d]`, finite.

    Returns:
        `[n, d]` float32.

    Raises:
        ValueError: It is no matrix, or a value is NaN or infinite.
    """
    if vectors.ndim != 2:
        raise ValueError(f"vectors must be a matrix [n, d], got shape {vectors.shape}")
    if not np.isfinite(vectors).all():
        row = int(np.argmin(np.isfinite(vectors).all(axis=1)))
        raise ValueError(f"row {row} of the vectors holds NaN or infinity; the encoder has diverged")
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)

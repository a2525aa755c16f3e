"""LiDAR: how many directions tell images apart beyond what changes between views of one image; label-free."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.evaluation.rankme import effective_rank

__all__ = ["lidar"]

_RIDGE = 1e-4
"""Added to the within-image covariance's diagonal, as in the paper."""


def lidar(views: NDArray[np.float32]) -> float:
    """Computes the effective rank of the linear discriminant between images.

    Each image is a class whose members are its views. The eigenvalues of `W^-1/2 B W^-1/2`, with the covariance B of
    the images' means and W of the views about them, take the place of RankMe's singular values.

    Args:
        views: `[n, q, d]`: q views' embeddings of each of n images, n and q at least 2; the paper takes 1,000 and 50.

    Returns:
        Between 1 and min(n - 1, d).

    Raises:
        ValueError: There are too few images or views, or an embedding is not finite.

    Source: Thilak et al. 2023, arXiv:2312.04000.
    """
    if views.ndim != 3 or views.shape[0] < 2 or views.shape[1] < 2:
        raise ValueError(f"LiDAR needs at least two images of at least two views, got shape {views.shape}")
    if not np.isfinite(views).all():
        raise ValueError("the embeddings hold NaN or infinity; the encoder has diverged")
    exact = views.astype(np.float64)
    means = exact.mean(axis=1)
    centred = means - means.mean(axis=0)
    between = centred.T @ centred / (len(means) - 1)
    inside = (exact - means[:, None, :]).reshape(-1, exact.shape[2])
    within = inside.T @ inside / (exact.shape[0] * (exact.shape[1] - 1)) + _RIDGE * np.eye(exact.shape[2])
    values, vectors = np.linalg.eigh(within)
    whitening = vectors / np.sqrt(values)
    ratios = np.linalg.eigvalsh(whitening.T @ between @ whitening)
    return effective_rank(np.clip(ratios, 0, None))

"""Alignment (positive pairs lie close) and uniformity (all lie spread) on the unit sphere; lower is better for both."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from training.evaluation.vectors import unit_rows

__all__ = ["MAX_UNIFORMITY_ITEMS", "alignment", "alignment_distances", "uniformity"]

MAX_UNIFORMITY_ITEMS = 4096
"""Items that uniformity looks at; pairs grow with the square."""


def alignment_distances(
    first: NDArray[np.float32], second: NDArray[np.float32], *, exponent: float = 2.0
) -> NDArray[np.float64]:
    """Returns each positive pair's distance on the sphere to a power.

    Args:
        first: `[n, d]`, one side of each pair.
        second: `[n, d]`, the other.
        exponent: The paper's alpha.

    Returns:
        `[n]`, in [0, 2 ** exponent].

    Raises:
        ValueError: The shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"pairs must match row by row, got shapes {first.shape} and {second.shape}")
    gaps = unit_rows(first).astype(np.float64) - unit_rows(second).astype(np.float64)
    distances: NDArray[np.float64] = np.linalg.norm(gaps, axis=1) ** exponent
    return distances


def alignment(first: NDArray[np.float32], second: NDArray[np.float32], *, exponent: float = 2.0) -> float:
    """Returns the mean distance of positive pairs; 0 where each pair coincides.

    Args:
        first: `[n, d]`, one side of each pair; n at least 1.
        second: `[n, d]`, the other.
        exponent: The paper's alpha.

    Returns:
        The mean, in [0, 2 ** exponent].

    Raises:
        ValueError: There are no pairs, or the shapes differ.

    Source: Wang & Isola 2020, arXiv:2005.10242.
    """
    if len(first) == 0:
        raise ValueError("alignment needs at least one positive pair")
    return float(alignment_distances(first, second, exponent=exponent).mean())


def uniformity(embeddings: NDArray[np.float32], *, scale: float = 2.0, seed: int = 0) -> float:
    """Returns the log of the mean Gaussian potential over distinct pairs; 0 where all coincide.

    Args:
        embeddings: `[n, d]`, n at least 2; above `MAX_UNIFORMITY_ITEMS` a seeded sample is taken.
        scale: The paper's t.
        seed: Seed of the sample.

    Returns:
        At most 0; lower is more spread.

    Raises:
        ValueError: There are fewer than two items.

    Source: Wang & Isola 2020, arXiv:2005.10242. The mean is over i < j, taken before the log.
    """
    if len(embeddings) < 2:
        raise ValueError(f"uniformity needs at least two items, got {len(embeddings)}")
    if len(embeddings) > MAX_UNIFORMITY_ITEMS:
        chosen = np.random.default_rng(seed).choice(len(embeddings), MAX_UNIFORMITY_ITEMS, replace=False)
        embeddings = embeddings[np.sort(chosen)]
    rows = torch.from_numpy(unit_rows(embeddings).astype(np.float64))
    squared = torch.pdist(rows).square_()
    return float((-scale * squared).exp_().mean().log())

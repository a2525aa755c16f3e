"""SimCLR's loss: find the other view of the same image among all views of the batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from training.losses.precision import full_precision, unit_rows

__all__ = ["nt_xent_loss", "nt_xent_scores"]


def nt_xent_scores(first: Tensor, second: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """Scores every view of the batch against every other.

    Args:
        first: `[n, d]`, one view's projections, of any length; they are normalised here.
        second: `[n, d]`, the other view's; row i shows the image of `first`'s row i.
        temperature: Divides the cosines; positive.

    Returns:
        Scores `[2n, 2n]` fp32, a view against itself -inf; and `[2n]` int64, each row's positive.

    Raises:
        ValueError: The shapes differ, the batch is empty, or the temperature is not positive.
    """
    if first.shape != second.shape or first.ndim != 2 or first.shape[0] == 0:
        raise ValueError(
            f"the views must be two equal [n, d], n >= 1, got {list(first.shape)} and {list(second.shape)}"
        )
    if temperature <= 0:
        raise ValueError(f"temperature ({temperature}) must be > 0")
    count = first.shape[0]
    with full_precision(first):
        views = unit_rows(torch.cat([first, second]))
        scores = views @ views.T / temperature
        scores = scores.masked_fill(torch.eye(2 * count, dtype=torch.bool, device=first.device), float("-inf"))
    positives = torch.arange(2 * count, device=first.device).roll(count)
    return scores, positives


def nt_xent_loss(first: Tensor, second: Tensor, *, temperature: float) -> Tensor:
    """Draws the two views of an image together and apart from every other view in the batch.

    For view i with positive p: `-s_ip / T + log sum_(k != i) exp(s_ik / T)`, s the cosine, averaged over all 2n views.
    The authors' code returns the sum of the two directions, which is twice this value.

    Args:
        first: `[n, d]`, one view's projections, of any length.
        second: `[n, d]`, the other view's; row i shows the image of `first`'s row i.
        temperature: Divides the cosines. Paper: 0.1 for ImageNet, 0.5 for CIFAR-10.

    Returns:
        Scalar, fp32; log(2n - 1) where all projections are equal.

    Refuses what `nt_xent_scores` refuses.

    Source: Chen et al. 2020, arXiv:2002.05709, equation 1.
    """
    scores, positives = nt_xent_scores(first, second, temperature=temperature)
    return F.cross_entropy(scores, positives)

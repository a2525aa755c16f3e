"""Agreement of predictions with constant targets by their cosine: what BYOL and SimSiam share."""

from __future__ import annotations

from torch import Tensor

from training.losses.precision import unit_rows

__all__ = ["negative_cosine_loss", "normalised_distance_loss"]


def negative_cosine_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Turns each prediction towards its target: `-mean_i cos(p_i, sg(z_i))`, one direction of SimSiam's loss.

    Args:
        predictions: `[n, d]`, of any length; carries the gradient.
        targets: `[n, d]`, of any length; constants, whatever they carry.

    Returns:
        Scalar, fp32, in [-1, 1]; -1 where all point the same way, which is no evidence of learning.

    Raises:
        ValueError: The shapes differ, or the batch is empty.

    Source: Chen & He 2021, arXiv:2011.10566, equation 1.
    """
    if predictions.shape != targets.shape or predictions.ndim != 2 or len(predictions) == 0:
        raise ValueError(
            "predictions and targets must be two equal [n, d], n >= 1, "
            f"got {list(predictions.shape)} and {list(targets.shape)}"
        )
    return -(unit_rows(predictions) * unit_rows(targets.detach())).sum(dim=1).mean()


def normalised_distance_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Moves each prediction to its target on the sphere: `mean_i |n(p_i) - n(sg(z_i))|^2 = 2 - 2 cos`.

    One direction of BYOL's loss, and `2 + 2 negative_cosine_loss`.

    Args:
        predictions: `[n, d]`, of any length; carries the gradient.
        targets: `[n, d]`, of any length; constants, whatever they carry.

    Returns:
        Scalar, fp32, in [0, 4].

    Refuses what `negative_cosine_loss` refuses.

    Source: Grill et al. 2020, arXiv:2006.07733, equation 2.
    """
    return 2 + 2 * negative_cosine_loss(predictions, targets)

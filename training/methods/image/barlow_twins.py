"""Barlow Twins: each value of a projection agrees between two views, and with no other value of it.

Source: Zbontar, Jing, Misra, LeCun & Deny 2021, "Barlow Twins: self-supervised learning via redundancy reduction",
arXiv:2103.03230.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.heads import Block, ProjectionHead
from models.image.encoder import ImageEncoder
from training.distributed import gather_with_gradient
from training.losses.precision import full_precision
from training.methods.base import ImageBatch, LossOutput, Method, MethodContext, Progress
from training.methods.recipes import Recipe, RecipeName, Recipes, adamw, lars
from training.views.config import ViewConfig
from training.views.presets import Augmentation
from training.views.spec import ViewSpec

__all__ = ["BarlowTwins", "BarlowTwinsConfig", "barlow_twins_loss", "barlow_twins_projector", "barlow_twins_terms"]

_EPSILON = 1e-5
"""Added to each variance, as BatchNorm's, so that a constant column correlates with nothing rather than with NaN."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BarlowTwinsConfig(ViewConfig):
    """Barlow Twins (Zbontar et al. 2021): make the two views' cross-correlation matrix the identity."""

    redundancy_weight: float = 0.0051
    """Of the off-diagonal correlations beside the diagonal ones, at least 0. Paper: lambda."""
    projection_width: int = 8192
    """Width of the projection, at least 1; the correlation matrix has its square."""
    hidden_width: int = 8192
    """Width of the projector's two hidden layers, at least 1."""
    bias_lr_scale: float = 0.024
    """Factor on the learning rate of biases and norms, at least 0; the authors have 0.0048 beside 0.2."""
    augmentation: Augmentation = Augmentation.BYOL_FIRST
    """Set of random changes. With byol-first the second view is byol-second, as in the paper; any other is both
    views'."""

    def __post_init__(self) -> None:
        for name, least in (
            ("redundancy_weight", 0),
            ("projection_width", 1),
            ("hidden_width", 1),
            ("bias_lr_scale", 0),
        ):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} ({getattr(self, name)}) must be >= {least}")


# A small head, which is quick on a CPU too: solo-learn has 2048 for CIFAR-10, and the paper's 8192 is ImageNet's. Crops
# as gentle as MoCo's. AdamW has no use for the slow biases that LARS wants.
_SMALL_IMAGES = {"projection_width": 1024, "hidden_width": 1024, "bias_lr_scale": 1.0, "augmentation": "strong"}

RECIPES: Recipes = {
    RecipeName.SCRATCH: Recipe(batch_size=64, optimiser=adamw(1e-3), settings=_SMALL_IMAGES),
    # An adaptation: the paper trains from scratch alone.
    RecipeName.ADAPT: Recipe(batch_size=64, optimiser=adamw(1e-4), settings=_SMALL_IMAGES),
    # The authors' rate, 0.2 a 256 images, without their batch of 2048.
    RecipeName.PAPER: Recipe(optimiser=lars(0.2, 1e-6)),
}


def barlow_twins_terms(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Measures how far the views' cross-correlation matrix C is from the identity.

    Each column is standardised over the batch by its biased standard deviation, without which equal views would not
    reach C_ii = 1; `C = A^T B / n`.

    Args:
        first: `[n, d]`, one view's projections.
        second: `[n, d]`, the other view's; row i shows the image of `first`'s row i.

    Returns:
        `sum_i (1 - C_ii)^2`, d where a view is constant, and `sum_(i != j) C_ij^2`; scalars, fp32.

    Raises:
        ValueError: The shapes differ, or there are fewer than two rows.
    """
    if first.shape != second.shape or first.ndim != 2 or first.shape[0] < 2:
        raise ValueError(
            f"the views must be two equal [n, d], n >= 2, got {list(first.shape)} and {list(second.shape)}"
        )
    with full_precision(first):
        correlation = _standardise(first).T @ _standardise(second) / first.shape[0]
    diagonal = correlation.diagonal()
    return (1 - diagonal).square().sum(), (correlation - diagonal.diag()).square().sum()


def barlow_twins_loss(first: Tensor, second: Tensor, *, redundancy_weight: float) -> Tensor:
    """Draws the views' cross-correlation matrix towards the identity.

    `sum_i (1 - C_ii)^2 + lambda sum_(i != j) C_ij^2`, as the authors': a sum, which grows with the width d. Both views
    carry the gradient; there is no direction to average over.

    Args:
        first: `[n, d]`, one view's projections.
        second: `[n, d]`, the other view's.
        redundancy_weight: Of the second sum. Paper: lambda, 0.0051.

    Returns:
        Scalar, fp32: 0 where every column equals its twin and is uncorrelated with the others.

    Refuses what `barlow_twins_terms` refuses.

    Source: Zbontar et al. 2021, arXiv:2103.03230, equations 1 and 2.
    """
    invariance, redundancy = barlow_twins_terms(first, second)
    return invariance + redundancy_weight * redundancy


def barlow_twins_projector(inputs: int, *, hidden: int = 8192, outputs: int = 8192) -> ProjectionHead:
    """Builds Barlow Twins' head: Linear-BN-ReLU twice, then Linear, all without biases.

    "The projector network has three linear layers, each with 8192 output units. The first two layers of the projector
    are followed by a batch normalization layer and rectified linear units" [0].

    Args:
        inputs: Width of the representation.
        hidden: Width of the two hidden layers.
        outputs: Width of the projection.

    Returns:
        The head.

    References:
        - [0] Barlow Twins, 2021, section 2.2, https://arxiv.org/abs/2103.03230
    """
    return ProjectionHead(
        [
            Block(inputs=inputs, outputs=hidden, bias=False),
            Block(inputs=hidden, outputs=hidden, bias=False),
            Block(inputs=hidden, outputs=outputs, batch_norm=False, relu=False, bias=False),
        ]
    )


class BarlowTwins(Method):
    """Learns an image encoder by redundancy reduction.

    Differs from the authors' code: both views go through the network in one pass, so that a BatchNorm's statistics are
    of both; and the gradient is that of the whole batch on any number of ranks.

    Args:
        encoder: Gives the representation, which is kept.
        config: Weight, head and views.
        context: Gives the size of the views.
    """

    config_type = BarlowTwinsConfig
    recipes = RECIPES

    def __init__(self, encoder: ImageEncoder, config: BarlowTwinsConfig, *, context: MethodContext) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = barlow_twins_projector(
            encoder.width, hidden=config.hidden_width, outputs=config.projection_width
        )
        self.config = config
        self.image_size_px = context.image_size_px

    def views(self) -> tuple[ViewSpec, ...]:
        """Returns the two views, which differ in blur and solarisation where they are the paper's."""
        return self.config.pair(self.image_size_px)

    def loss(self, batch: ImageBatch, progress: Progress) -> LossOutput:  # noqa: ARG002 - no schedule in the paper
        """Computes Barlow Twins' loss over the images of all ranks.

        Args:
            batch: Two views per image.
            progress: Unused.

        Returns:
            The loss; `invariance` and `redundancy`, its two sums before they are weighted.
        """
        projections = self.projector(self.encoder(torch.cat(batch.views)))
        first, second = projections.chunk(2)
        invariance, redundancy = barlow_twins_terms(gather_with_gradient(first), gather_with_gradient(second))
        loss = invariance + self.config.redundancy_weight * redundancy
        metrics = {"invariance": invariance.detach(), "redundancy": redundancy.detach()}
        return LossOutput(loss, projections.detach(), metrics)

    def param_groups(self) -> Iterable[dict[str, Any]]:
        """Returns weights, and biases and norms, which have a rate of their own."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        kept = [parameter for parameter in trained if parameter.ndim <= 1]
        return [
            {"name": "weights", "params": [parameter for parameter in trained if parameter.ndim > 1]},
            {"name": "biases", "params": kept, "lr_scale": self.config.bias_lr_scale},
        ]


def _standardise(projections: Tensor) -> Tensor:
    """Returns the columns with mean 0 and, but for the epsilon, biased variance 1, in fp32."""
    rows = projections.float()
    variance, mean = torch.var_mean(rows, dim=0, correction=0)
    return (rows - mean) / (variance + _EPSILON).sqrt()

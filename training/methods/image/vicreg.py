"""VICReg: two views agree (invariance), every value varies (variance), and no two values say the same (covariance).

Source: Bardes, Ponce & LeCun 2022, "VICReg: variance-invariance-covariance regularization for self-supervised
learning", arXiv:2105.04906.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.heads import ProjectionHead, mlp
from models.image.encoder import ImageEncoder
from training.distributed import gather_with_gradient
from training.losses.precision import full_precision
from training.methods.base import ImageBatch, LossOutput, Method, MethodContext, Progress
from training.methods.recipes import Recipe, RecipeName, Recipes, adamw, lars
from training.views.config import ViewConfig
from training.views.presets import Augmentation
from training.views.spec import ViewSpec

__all__ = ["VICReg", "VICRegConfig", "VICRegTerms", "vicreg_loss", "vicreg_projector", "vicreg_terms"]

_EPSILON = 1e-4
"""Added to each variance, so that the root's gradient stays finite where a column is constant."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VICRegConfig(ViewConfig):
    """VICReg (Bardes et al. 2022): draw views together, and keep every value of the projection alive by itself."""

    invariance_weight: float = 25.0
    """Of the squared distance between the views, at least 0. Paper: lambda."""
    variance_weight: float = 25.0
    """Of the hinge that keeps each value's standard deviation above 1, at least 0. Paper: mu."""
    covariance_weight: float = 1.0
    """Of the squared covariances between values, at least 0. Paper: nu."""
    projection_width: int = 8192
    """Width of the projection, at least 1; the covariance matrix has its square."""
    hidden_width: int = 8192
    """Width of the projector's two hidden layers, at least 1."""
    augmentation: Augmentation = Augmentation.BYOL_FIRST
    """Set of random changes. With byol-first the second view is byol-second, as in the paper; any other is both
    views'."""

    def __post_init__(self) -> None:
        for name in ("invariance_weight", "variance_weight", "covariance_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} ({getattr(self, name)}) must be >= 0")
        if self.projection_width < 1 or self.hidden_width < 1:
            raise ValueError(
                f"projection_width ({self.projection_width}) and hidden_width ({self.hidden_width}) must be >= 1"
            )


# A small head, which is quick on a CPU too: solo-learn has 2048 for CIFAR-10, and the paper's 8192 is ImageNet's. Crops
# as gentle as MoCo's.
_SMALL_IMAGES = {"projection_width": 1024, "hidden_width": 1024, "augmentation": "strong"}

RECIPES: Recipes = {
    RecipeName.SCRATCH: Recipe(batch_size=64, optimiser=adamw(1e-3), settings=_SMALL_IMAGES),
    # An adaptation: the paper trains from scratch alone.
    RecipeName.ADAPT: Recipe(batch_size=64, optimiser=adamw(1e-4), settings=_SMALL_IMAGES),
    # The authors' rate, 0.2 a 256 images, without their batch of 2048.
    RecipeName.PAPER: Recipe(optimiser=lars(0.2, 1e-6)),
}


@dataclass(frozen=True, slots=True)
class VICRegTerms:
    """The three terms before they are weighted; scalars, fp32."""

    invariance: Tensor
    """Mean squared difference between the views' values."""
    variance: Tensor
    """Mean over values and views of `max(0, 1 - sqrt(var + 1e-4))`, with the unbiased variance; in [0, 0.99]."""
    covariance: Tensor
    """`1/d sum_(i != j) cov_ij^2`, of both views together: summed, not averaged."""


def vicreg_terms(first: Tensor, second: Tensor) -> VICRegTerms:
    """Measures the views' distance, and each view's variances and covariances over the batch.

    Args:
        first: `[n, d]`, one view's projections, which are not normalised.
        second: `[n, d]`, the other view's; row i shows the image of `first`'s row i.

    Returns:
        The terms.

    Raises:
        ValueError: The shapes differ, or there are fewer than two rows.
    """
    if first.shape != second.shape or first.ndim != 2 or first.shape[0] < 2:
        raise ValueError(
            f"the views must be two equal [n, d], n >= 2, got {list(first.shape)} and {list(second.shape)}"
        )
    views = torch.stack([first.float(), second.float()])  # [2, n, d]
    centred = views - views.mean(dim=1, keepdim=True)
    with full_precision(views):
        covariance = centred.mT @ centred / (views.shape[1] - 1)  # [2, d, d]
    variances = covariance.diagonal(dim1=1, dim2=2)
    return VICRegTerms(
        invariance=(views[0] - views[1]).square().mean(),
        variance=F.relu(1 - (variances + _EPSILON).sqrt()).mean(),
        covariance=(covariance - variances.diag_embed()).square().sum() / views.shape[2],
    )


def vicreg_loss(
    first: Tensor,
    second: Tensor,
    *,
    invariance_weight: float = 25.0,
    variance_weight: float = 25.0,
    covariance_weight: float = 1.0,
) -> Tensor:
    """Draws the views together while each value varies over the batch and differs from the others.

    As the authors' code: the distance is a mean over all values, the hinge the mean of both views', the covariances the
    sum of both views'.

    Args:
        first: `[n, d]`, one view's projections.
        second: `[n, d]`, the other view's.
        invariance_weight: Paper: lambda.
        variance_weight: Paper: mu.
        covariance_weight: Paper: nu.

    Returns:
        Scalar, fp32; `variance_weight * 0.99` where all projections are equal.

    Refuses what `vicreg_terms` refuses.

    Source: Bardes et al. 2022, arXiv:2105.04906, equations 1 to 6.
    """
    terms = vicreg_terms(first, second)
    spread = variance_weight * terms.variance + covariance_weight * terms.covariance
    return invariance_weight * terms.invariance + spread


def vicreg_projector(inputs: int, *, hidden: int = 8192, outputs: int = 8192) -> ProjectionHead:
    """Builds VICReg's expander: Linear-BN-ReLU twice, then Linear without bias.

    The paper's head for ResNet-50 is 2048 -> 8192 -> 8192 -> 8192 [0]; in the authors' code only the last layer has no
    bias, unlike Barlow Twins' [1].

    Args:
        inputs: Width of the representation.
        hidden: Width of the two hidden layers.
        outputs: Width of the projection.

    Returns:
        The head.

    References:
        - [0] VICReg, 2022, section 4.2, https://arxiv.org/abs/2105.04906
        - [1] `Projector`, https://github.com/facebookresearch/vicreg/blob/4e12602/main_vicreg.py
    """
    return mlp(inputs, hidden, hidden, outputs, output_bias=False)


class VICReg(Method):
    """Learns an image encoder by variance, invariance and covariance.

    Differs from the authors' code: both views go through the network in one pass, so that a BatchNorm's statistics are
    of both.

    Args:
        encoder: Gives the representation, which is kept.
        config: Weights, head and views.
        context: Gives the size of the views.
    """

    config_type = VICRegConfig
    recipes = RECIPES

    def __init__(self, encoder: ImageEncoder, config: VICRegConfig, *, context: MethodContext) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = vicreg_projector(encoder.width, hidden=config.hidden_width, outputs=config.projection_width)
        self.config = config
        self.image_size_px = context.image_size_px

    def views(self) -> tuple[ViewSpec, ...]:
        """Returns the two views, which differ in blur and solarisation where they are the paper's."""
        return self.config.pair(self.image_size_px)

    def loss(self, batch: ImageBatch, progress: Progress) -> LossOutput:  # noqa: ARG002 - no schedule in the paper
        """Computes VICReg's loss over the images of all ranks.

        Args:
            batch: Two views per image.
            progress: Unused.

        Returns:
            The loss; `invariance`, `variance` and `covariance`, its terms before they are weighted.
        """
        projections = self.projector(self.encoder(torch.cat(batch.views)))
        first, second = projections.chunk(2)
        terms = vicreg_terms(gather_with_gradient(first), gather_with_gradient(second))
        config = self.config
        spread = config.variance_weight * terms.variance + config.covariance_weight * terms.covariance
        metrics = {
            "invariance": terms.invariance.detach(),
            "variance": terms.variance.detach(),
            "covariance": terms.covariance.detach(),
        }
        return LossOutput(config.invariance_weight * terms.invariance + spread, projections.detach(), metrics)

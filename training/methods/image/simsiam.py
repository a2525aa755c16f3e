"""SimSiam: one view of an image predicts the other's projection; the stop-gradient alone keeps it from collapsing.

Source: Chen & He 2021, "Exploring simple Siamese representation learning", arXiv:2011.10566.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from models.heads import Block, ProjectionHead
from models.image.encoder import ImageEncoder
from training.losses.cosine import negative_cosine_loss
from training.methods.base import ImageBatch, LossOutput, Method, MethodContext, Progress
from training.methods.recipes import Recipe, RecipeName, Recipes, sgd
from training.views.config import ViewConfig
from training.views.spec import ViewSpec

__all__ = ["SimSiam", "SimSiamConfig", "simsiam_predictor", "simsiam_projector"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SimSiamConfig(ViewConfig):
    """SimSiam (Chen & He 2021): predict the other view's projection, held constant."""

    projection_width: int = 2048
    """Width of the projection and of the projector's hidden layers, at least 4. Paper: d."""
    projector_layers: int = 3
    """Linear layers of the projector, at least 1. Paper: 3 for ImageNet, 2 for CIFAR-10."""
    fixed_predictor_rate: bool = True
    """Whether the predictor's learning rate stays at the full one, as in the paper, while the others' decays."""

    def __post_init__(self) -> None:
        if self.projection_width < 4:
            raise ValueError(
                f"projection_width ({self.projection_width}) must be >= 4: the predictor's hidden layer is a quarter"
            )
        if self.projector_layers < 1:
            raise ValueError(f"projector_layers ({self.projector_layers}) must be >= 1")


# CIFAR-10's projector, narrower: heads that cost less than a small encoder.
_SMALL_HEADS = {"projection_width": 512, "projector_layers": 2}

RECIPES: Recipes = {
    # Appendix D's weight decay for CIFAR-10; lightly's rate for it is 0.06 a 128 images.
    RecipeName.SCRATCH: Recipe(batch_size=32, optimiser=sgd(0.03, 5e-4), settings=_SMALL_HEADS),
    # An adaptation: the paper trains from scratch alone.
    RecipeName.ADAPT: Recipe(batch_size=64, optimiser=sgd(0.003, 1e-4), settings=_SMALL_HEADS),
    # "A learning rate of lr x BatchSize / 256 (...), with a base lr = 0.05"; no warm-up below batches of 1,024.
    RecipeName.PAPER: Recipe(batch_size=512, optimiser=sgd(0.1, 1e-4)),
}


def simsiam_projector(inputs: int, *, width: int = 2048, layers: int = 3) -> ProjectionHead:
    """Builds SimSiam's projector: BatchNorm after every layer, ReLU after all but the last.

    "The projection MLP (in f) has BN applied to each fully-connected (fc) layer, including its output fc. Its output fc
    has no ReLU. The hidden fc is 2048-d. This MLP has 3 layers" [0]. In the authors' code the output's BatchNorm has
    neither scale nor shift, and no linear layer a bias that learns [1].

    Args:
        inputs: Width of the representation.
        width: Width of every layer.
        layers: Linear layers, at least 1.

    Returns:
        The head.

    References:
        - [0] SimSiam, 2021, section 3, https://arxiv.org/abs/2011.10566
        - [1] https://github.com/facebookresearch/simsiam/blob/main/simsiam/builder.py
    """
    widths = [inputs] + [width] * layers
    hidden = [Block(inputs=before, outputs=width, bias=False) for before in widths[:-2]]
    closing = Block(inputs=widths[-2], outputs=width, bias=False, centre=False, scale=False, relu=False)
    return ProjectionHead([*hidden, closing])


def simsiam_predictor(width: int = 2048) -> ProjectionHead:
    """Builds SimSiam's predictor, a bottleneck: d -> d/4 -> d.

    "The prediction MLP (h) has BN applied to its hidden fc layers. Its output fc does not have BN (...) or ReLU. This
    MLP has 2 layers. The dimension of h's input and output (z and p) is d = 2048, and h's hidden layer's dimension is
    512, making h a bottleneck structure" [0]. With BatchNorm at its output "the training is unstable and the loss
    oscillates" [0].

    Args:
        width: Of the projection, at least 4.

    Returns:
        The head.

    References:
        - [0] SimSiam, 2021, section 3, https://arxiv.org/abs/2011.10566
    """
    return ProjectionHead(
        [
            Block(inputs=width, outputs=width // 4, bias=False),
            Block(inputs=width // 4, outputs=width, batch_norm=False, relu=False),
        ]
    )


class SimSiam(Method):
    """Learns an image encoder by predicting one view's projection from the other's.

    Args:
        encoder: Gives the representation, which is kept; both views share it.
        config: Heads and views.
        context: Gives the size of the views.
    """

    config_type = SimSiamConfig
    recipes = RECIPES

    def __init__(self, encoder: ImageEncoder, config: SimSiamConfig, *, context: MethodContext) -> None:
        super().__init__()
        width = config.projection_width
        self.encoder = encoder
        self.projector = simsiam_projector(encoder.width, width=width, layers=config.projector_layers)
        self.predictor = simsiam_predictor(width)
        self.config = config
        self.image_size_px = context.image_size_px

    def views(self) -> tuple[ViewSpec, ...]:
        """Returns two views from one set of changes."""
        view = self.config.view(self.image_size_px)
        return view, view

    def loss(self, batch: ImageBatch, progress: Progress) -> LossOutput:  # noqa: ARG002 - no schedule but the rate's
        """Computes `D(p1, sg(z2)) / 2 + D(p2, sg(z1)) / 2`, D the negative cosine.

        Args:
            batch: Two views per image.
            progress: Unused.

        Returns:
            The loss in [-1, 1]; -1 is reached by collapse too, which shows in the projections' spread.
        """
        # One view at a time, as the authors: each is normalised with its own statistics.
        first, second = (self.projector(self.encoder(view)) for view in batch.views)
        loss = (
            negative_cosine_loss(self.predictor(first), second) + negative_cosine_loss(self.predictor(second), first)
        ) / 2
        return LossOutput(loss, torch.cat([first, second]).detach())

    def param_groups(self) -> Iterable[dict[str, Any]]:
        """Returns the encoder and its projector, and the predictor, whose rate does not decay.

        "h should adapt to the latest representations, so it is not necessary to force it converge (by reducing lr)
        before the representations are sufficiently trained" (section 4.2).
        """
        body = [*self.encoder.parameters(), *self.projector.parameters()]
        fixed = self.config.fixed_predictor_rate
        return [
            {"name": "body", "params": body},
            {"name": "predictor", "params": list(self.predictor.parameters()), "fixed_rate": fixed},
        ]

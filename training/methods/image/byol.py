"""BYOL: one view of an image predicts what a slow average of the network makes of the other; there are no negatives.

Source: Grill et al. 2020, "Bootstrap your own latent: a new approach to self-supervised learning", arXiv:2006.07733.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from models.heads import Block, ProjectionHead
from models.image.encoder import ImageEncoder
from training.losses.cosine import normalised_distance_loss
from training.methods.base import ImageBatch, LossOutput, Method, MethodContext, Progress
from training.methods.recipes import Recipe, RecipeName, Recipes, lars, sgd
from training.state.ema import EmaTarget, cosine_ema_decay
from training.views.config import ViewConfig
from training.views.presets import Augmentation
from training.views.spec import ViewSpec

__all__ = ["BYOL", "BYOLConfig", "byol_head"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BYOLConfig(ViewConfig):
    """BYOL (Grill et al. 2020): predict what a slow average of the network makes of the other view."""

    symmetric: bool = True
    """Whether each view predicts the other, at twice the work. False: the first predicts the second."""
    ema_decay: float = 0.996
    """Of the target branch at the first step, in [0, 1]; rises to 1 over the training. Paper: tau; 0.99 in runs of 300
    epochs."""
    hidden_width: int = 4096
    """Width of the hidden layers of projector and predictor."""
    projection_width: int = 256
    """Width of the projection and of its prediction."""
    output_norm: bool = False
    """Whether a BatchNorm closes the projector: in short runs it keeps projections from falling into a few dimensions.
    The authors have none."""
    augmentation: Augmentation = Augmentation.BYOL_FIRST
    """Set of random changes. With byol-first the second view is byol-second, as in the paper; any other is both
    views'."""

    def __post_init__(self) -> None:
        if not 0 <= self.ema_decay <= 1:
            raise ValueError(f"ema_decay ({self.ema_decay}) must be in [0, 1]")
        for name in ("hidden_width", "projection_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must be >= 1")


# As mean shift, which with one neighbour is this method without symmetry: many small steps of SGD and a BatchNorm after
# the projector keep the most dimensions. An average over some hundred steps and a smaller head suit thousands of steps.
_SHORT = {"ema_decay": 0.99, "hidden_width": 1024, "output_norm": True, "augmentation": "strong"}

RECIPES: Recipes = {
    RecipeName.SCRATCH: Recipe(batch_size=64, optimiser=sgd(0.05, 1e-4, warmup=0.02), settings=_SHORT),
    # An adaptation: the paper trains from scratch alone.
    RecipeName.ADAPT: Recipe(batch_size=64, optimiser=sgd(0.005, 1e-4, warmup=0.02), settings=_SHORT),
    # The 1,000 epochs' settings: 0.2 a 256 images. LARS's steps do not follow the loss's factor, which is the sum of
    # both directions in the paper; those of biases and norms do.
    RecipeName.PAPER: Recipe(optimiser=lars(0.2, 1.5e-6)),
}


def byol_head(inputs: int, *, hidden: int = 4096, outputs: int = 256, output_norm: bool = False) -> ProjectionHead:
    """Builds BYOL's projector, or its predictor: Linear-BN-ReLU-Linear.

    "This MLP consists in a linear layer with output size 4096 followed by batch normalization, rectified linear units
    (ReLU), and a final linear layer with output dimension 256. Contrary to SimCLR, the output of this MLP is not batch
    normalized" [0]. "The predictor q_theta uses the same architecture" [0]. The authors' code gives the first layer a
    bias and the last one none [1].

    Args:
        inputs: Width of the representation, or, for the predictor, of the projection.
        hidden: Width of the hidden layer.
        outputs: Width of the projection.
        output_norm: Whether a BatchNorm without shift closes it; the authors have none.

    Returns:
        The head.

    References:
        - [0] BYOL, 2020, section 3.3, https://arxiv.org/abs/2006.07733
        - [1] `MLP`, https://github.com/google-deepmind/deepmind-research/blob/f5de0ed/byol/utils/networks.py
    """
    return ProjectionHead(
        [
            Block(inputs=inputs, outputs=hidden),
            Block(inputs=hidden, outputs=outputs, batch_norm=output_norm, centre=False, relu=False, bias=False),
        ]
    )


class BYOL(Method):
    """Learns an image encoder by bootstrapping.

    Differs from the authors' code: the target starts as a copy of the online branch, which by their account makes no
    difference, and the loss is the mean of the two directions rather than their sum.

    Args:
        encoder: The online branch's encoder, which is kept.
        config: Average, heads and views.
        context: Gives the size of the views.
    """

    config_type = BYOLConfig
    recipes = RECIPES

    def __init__(self, encoder: ImageEncoder, config: BYOLConfig, *, context: MethodContext) -> None:
        super().__init__()
        hidden, width = config.hidden_width, config.projection_width
        self.encoder = encoder
        self.projector = byol_head(encoder.width, hidden=hidden, outputs=width, output_norm=config.output_norm)
        self.predictor = byol_head(width, hidden=hidden, outputs=width)
        self.target = EmaTarget(nn.Sequential(self.encoder, self.projector))
        self.config = config
        self.image_size_px = context.image_size_px

    def views(self) -> tuple[ViewSpec, ...]:
        """Returns the two views, which differ in blur and solarisation where they are the paper's."""
        return self.config.pair(self.image_size_px)

    def loss(self, batch: ImageBatch, progress: Progress) -> LossOutput:
        """Computes how far each view's prediction is from the target branch's projection of the other view.

        The paper's loss is the sum of the two directions, twice this value.

        Args:
            batch: Two views per image.
            progress: Where the average's schedule stands.

        Returns:
            The loss in [0, 4], low values of which are no evidence of learning; `ema_decay` of this step.
        """
        first, second = batch.views
        losses, projections = [], []
        # One view at a time, as the authors: each is normalised with its own statistics.
        for seen, other in ((first, second), (second, first)) if self.config.symmetric else ((first, second),):
            projection = self.projector(self.encoder(seen))
            losses.append(normalised_distance_loss(self.predictor(projection), self.target(other)))
            projections.append(projection.detach())
        return LossOutput(torch.stack(losses).mean(), torch.cat(projections), {"ema_decay": self.ema_decay(progress)})

    def after_step(self, progress: Progress) -> None:
        """Moves the target branch towards the online branch, which has just taken its step.

        Args:
            progress: Where the average's schedule stands.
        """
        self.target.update(nn.Sequential(self.encoder, self.projector), decay=self.ema_decay(progress))

    def ema_decay(self, progress: Progress) -> float:
        """Returns the average's decay at a step.

        Args:
            progress: Where the training stands.

        Returns:
            `ema_decay` at first, 1 at the end, by half a cosine.
        """
        return cosine_ema_decay(self.config.ema_decay, progress)

"""Rotation: every image is shown turned by 0, 90, 180 and 270 degrees, and the encoder says by how much.

Source: Gidaris, Singh & Komodakis 2018, "Unsupervised representation learning by predicting image rotations",
arXiv:1803.07728.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.image.encoder import ImageEncoder
from training.methods.base import ImageBatch, LossOutput, Method, MethodContext, Progress
from training.methods.recipes import Recipe, RecipeName, Recipes, adamw, sgd
from training.views.config import ViewConfig
from training.views.presets import Augmentation
from training.views.spec import ViewSpec

__all__ = ["ROTATIONS", "Rotation", "RotationConfig", "rotation_loss", "turn_four_ways"]

ROTATIONS = 4
"""Turns of each image: 4 did best among 2, 4 and 8 in the paper."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RotationConfig(ViewConfig):
    """Rotation (Gidaris et al. 2018): say by how many quarter turns an image is turned."""

    augmentation: Augmentation = Augmentation.WEAK
    """Set of random changes before the image is turned."""
    smallest_crop: float | None = 0.76
    """Least area of the crop as a fraction of the image's, in (0, 1]. Paper: (7 / 8)², shifts of a padded image; what
    pads a border would tell the turn, so nothing is padded here."""


RECIPES: Recipes = {
    # Each image is four: 128 of them are a step of 512, as in the paper. AdamW, because of the few steps.
    RecipeName.SCRATCH: Recipe(batch_size=128, optimiser=adamw(1e-3)),
    RecipeName.ADAPT: Recipe(batch_size=128, optimiser=adamw(1e-4)),
    # The paper's rate falls to a fifth three times in 200 epochs; half a cosine stands in for the stairs.
    RecipeName.PAPER: Recipe(batch_size=128, optimiser=sgd(0.1, 5e-4)),
}


def turn_four_ways(images: Tensor) -> tuple[Tensor, Tensor]:
    """Turns every image by 0, 90, 180 and 270 degrees counter-clockwise: all of its turns are in one batch.

    By transposing and flipping alone: interpolation would leave a trace of the turn.

    Args:
        images: `[n, c, s, s]`.

    Returns:
        Images `[4n, c, s, s]`, row 4i + r being image i turned by r quarters; and `[4n]` int64, each row's r.

    Raises:
        ValueError: The images are not square.

    Source: Gidaris et al. 2018, arXiv:1803.07728.
    """
    if images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images must be [n, c, s, s], got {list(images.shape)}")
    turned = [images, images.transpose(2, 3).flip(2), images.flip(2, 3), images.flip(2).transpose(2, 3)]
    labels = torch.arange(ROTATIONS, device=images.device).repeat(len(images))
    return torch.stack(turned, dim=1).flatten(0, 1), labels


def rotation_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Names each image's turn: cross-entropy over the four, averaged over turns and images.

    Args:
        logits: `[m, 4]`, any floating type.
        labels: `[m]` int64: quarter turns.

    Returns:
        Scalar, fp32; log 4 where all logits are equal.

    Source: Gidaris et al. 2018, arXiv:1803.07728.
    """
    return F.cross_entropy(logits.float(), labels)


class Rotation(Method):
    """Learns an image encoder by telling how an image is turned.

    Args:
        encoder: Gives the representation, which a linear layer reads.
        config: Views.
        context: Gives the size of the views.
    """

    config_type = RotationConfig
    recipes = RECIPES

    def __init__(self, encoder: ImageEncoder, config: RotationConfig, *, context: MethodContext) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = nn.Linear(encoder.width, ROTATIONS)
        self.config = config
        self.image_size_px = context.image_size_px

    def views(self) -> tuple[ViewSpec, ...]:
        """Returns the one view that is turned."""
        return (self.config.view(self.image_size_px),)

    def loss(self, batch: ImageBatch, progress: Progress) -> LossOutput:  # noqa: ARG002 - no schedule in the paper
        """Computes the cross-entropy of the four turns of every image.

        Args:
            batch: One view per image.
            progress: Unused.

        Returns:
            The loss; `accuracy`, how often the turn is named, 0.25 by chance.
        """
        images, labels = turn_four_ways(batch.views[0])
        representations = self.encoder(images)
        logits = self.classifier(representations)
        accuracy = (logits.detach().argmax(dim=1) == labels).float().mean()
        return LossOutput(rotation_loss(logits, labels), representations.detach(), {"accuracy": accuracy})

"""Patch location: two patches of an image are shown, and the encoder says on which side of one the other lies.

Source: Doersch, Gupta & Efros 2015, "Unsupervised visual representation learning by context prediction",
arXiv:1505.05192; patches and head as in Kolesnikov et al. 2019, arXiv:1901.09005.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.heads import Block, ProjectionHead
from models.image.encoder import ImageEncoder
from models.image.input_sizes import require_input_sizes
from training.methods.base import ImageBatch, LossOutput, Method, MethodContext, Progress
from training.methods.recipes import Recipe, RecipeName, Recipes, adamw, sgd
from training.views.patches import PatchConfig, PatchGrid, standardise
from training.views.spec import ViewSpec

__all__ = ["NEIGHBOURS", "PatchLocation", "PatchLocationConfig", "pair_with_centre", "patch_location_loss"]

_SIDE = 3
_CENTRE = 4
NEIGHBOURS = (0, 1, 2, 3, 5, 6, 7, 8)
"""Cells of the grid of three, row by row, that are told apart: label i is cell `NEIGHBOURS[i]`; 4 is the centre."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchLocationConfig(PatchConfig):
    """Patch location (Doersch et al. 2015): say on which side of the centre a patch lies."""

    hidden_width: int = 4096
    """Width of the classifier's hidden layer."""
    dropout: float = 0.5
    """Share of the hidden layer that is dropped, in [0, 1)."""

    def __post_init__(self) -> None:
        self.check()
        if self.hidden_width < 1:
            raise ValueError(f"hidden_width ({self.hidden_width}) must be >= 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout ({self.dropout}) must be in [0, 1)")


# For a few thousand steps of a small encoder: a head as wide as the paper's would cost more than the encoder.
_SMALL_HEAD = {"hidden_width": 512, "dropout": 0.0}

RECIPES: Recipes = {
    RecipeName.SCRATCH: Recipe(optimiser=adamw(1e-3), settings=_SMALL_HEAD),
    RecipeName.ADAPT: Recipe(optimiser=adamw(1e-4), settings=_SMALL_HEAD),
    # The rate is that of published reproductions with a ResNet-50: 0.2 a 512 images, 5 of 70 epochs to reach it.
    RecipeName.PAPER: Recipe(optimiser=sgd(0.1, 1e-4, warmup=0.07)),
}


def pair_with_centre(features: Tensor) -> tuple[Tensor, Tensor]:
    """Puts each neighbour's features beside the centre's: all eight pairs of an image are in one batch.

    Args:
        features: `[n, 9, d]`, one row per patch of the grid, row by row.

    Returns:
        `[8n, 2d]`: neighbour, then centre; row 8i + j is image i's neighbour `NEIGHBOURS[j]`; and `[8n]` int64, each
        row's j.

    Raises:
        ValueError: There are not nine patches.
    """
    if features.ndim != 3 or features.shape[1] != _SIDE**2:
        raise ValueError(f"features must be [n, 9, d], got {list(features.shape)}")
    neighbours = features[:, list(NEIGHBOURS)]
    centre = features[:, _CENTRE, None].expand_as(neighbours)
    labels = torch.arange(len(NEIGHBOURS), device=features.device).repeat(len(features))
    return torch.cat([neighbours, centre], dim=2).flatten(0, 1), labels


def patch_location_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Names each neighbour's side: cross-entropy over the eight, averaged over pairs and images.

    Args:
        logits: `[m, 8]`, any floating type.
        labels: `[m]` int64.

    Returns:
        Scalar, fp32; log 8 where all logits are equal.

    Source: Doersch et al. 2015, arXiv:1505.05192.
    """
    return F.cross_entropy(logits.float(), labels)


class PatchLocation(Method):
    """Learns an image encoder by telling how two patches of an image lie to each other.

    Args:
        encoder: Reads the patches; a convolutional one.
        config: Patches, head and views.
        context: Gives the size of the images.

    Raises:
        ValueError: The encoder reads images of one size alone.
    """

    config_type = PatchLocationConfig
    recipes = RECIPES

    def __init__(self, encoder: ImageEncoder, config: PatchLocationConfig, *, context: MethodContext) -> None:
        super().__init__()
        self.grid = PatchGrid.of(context.image_size_px, side=_SIDE, patch_share=config.patch_share)
        require_input_sizes(encoder, [self.grid.patch_px])
        self.encoder = encoder
        self.classifier = nn.Sequential(
            ProjectionHead([Block(inputs=2 * encoder.width, outputs=config.hidden_width)]),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden_width, len(NEIGHBOURS)),
        )
        self.config = config

    def views(self) -> tuple[ViewSpec, ...]:
        """Returns the one view that patches are taken from; a small image is shown larger than it is."""
        return (self.config.patch_view(self.grid.size_px),)

    def loss(self, batch: ImageBatch, progress: Progress) -> LossOutput:  # noqa: ARG002 - no schedule in the paper
        """Computes the cross-entropy of all eight neighbours of every image's centre.

        Args:
            batch: One view per image.
            progress: Unused.

        Returns:
            The loss; `accuracy`, how often the side is named, 0.125 by chance.
        """
        images = batch.views[0]
        patches = standardise(self.grid.cut(images, self.grid.draw(len(images), device=images.device)))
        representations = self.encoder(patches.flatten(0, 1))
        pairs, labels = pair_with_centre(representations.unflatten(0, (-1, self.grid.cells)))
        logits = self.classifier(pairs)
        accuracy = (logits.detach().argmax(dim=1) == labels).float().mean()
        return LossOutput(patch_location_loss(logits, labels), representations.detach(), {"accuracy": accuracy})

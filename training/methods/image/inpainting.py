"""Inpainting (context encoder): part of an image is hidden, and a decoder fills it in from the representation.

Source: Pathak et al. 2016, "Context encoders: feature learning by inpainting", arXiv:1604.07379.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from models.image.decoder import ImageDecoder
from models.image.encoder import ImageEncoder
from training.losses.precision import full_precision
from training.methods.base import ImageBatch, LossOutput, Method, MethodContext, Progress
from training.methods.recipes import Recipe, RecipeName, Recipes, adamw
from training.views.config import ViewConfig
from training.views.presets import Augmentation
from training.views.spec import ViewSpec

__all__ = ["HiddenRegion", "Inpainting", "InpaintingConfig", "hide", "hide_blocks", "hide_centre", "inpainting_loss"]


class HiddenRegion(StrEnum):
    """Which part of an image is hidden."""

    CENTRE = "centre"
    """One square in the middle."""
    BLOCKS = "blocks"
    """Squares at random places, which may overlap; drawn for every image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InpaintingConfig(ViewConfig):
    """Inpainting (Pathak et al. 2016): fill in what is hidden of an image."""

    region: HiddenRegion = HiddenRegion.CENTRE
    """centre or blocks."""
    hidden_share: float = 0.25
    """Area that is hidden as a fraction of the image's, in (0, 1); blocks that overlap hide less."""
    block_count: int = 4
    """Blocks of each image; unused for the centre."""
    decoder_channels: int = 256
    """Channels that the decoder starts from."""
    augmentation: Augmentation = Augmentation.WEAK
    """Set of random changes before a part is hidden."""

    def __post_init__(self) -> None:
        if not 0 < self.hidden_share < 1:
            raise ValueError(f"hidden_share ({self.hidden_share}) must be in (0, 1)")
        if self.block_count < 1 or self.decoder_channels < 1:
            raise ValueError(
                f"block_count ({self.block_count}) and decoder_channels ({self.decoder_channels}) must be >= 1"
            )


# A hole that is always in the middle would teach an encoder about borders alone.
_BLOCKS = {"region": "blocks"}

RECIPES: Recipes = {
    RecipeName.SCRATCH: Recipe(optimiser=adamw(1e-3), settings=_BLOCKS),
    RecipeName.ADAPT: Recipe(optimiser=adamw(1e-4), settings=_BLOCKS),
    RecipeName.PAPER: Recipe(batch_size=64, optimiser=adamw(2e-3, 0.0, warmup=0.0)),
}


def hide_centre(count: int, size_px: int, *, share: float, device: torch.device) -> Tensor:
    """Returns masks that hide a square in the middle.

    Args:
        count: Images.
        size_px: Their side.
        share: Area to hide as a fraction of the image's, in (0, 1).
        device: Where the masks are wanted.

    Returns:
        `[count, size_px, size_px]` bool, True where hidden.
    """
    side = _side(size_px, share)
    corner = torch.full((count, 1, 2), (size_px - side) // 2, device=device)
    return _squares(corner, side, size_px)


def hide_blocks(count: int, size_px: int, *, share: float, blocks: int, device: torch.device) -> Tensor:
    """Returns masks that hide squares at random places, drawn with torch's default generator.

    Args:
        count: Images.
        size_px: Their side.
        share: Area of all squares of an image together as a fraction of the image's, in (0, 1).
        blocks: Squares of each image, at least 1.
        device: Where the masks are wanted.

    Returns:
        `[count, size_px, size_px]` bool, True where hidden: less than `share` of an image where squares overlap.
    """
    side = _side(size_px, share / blocks)
    return _squares(torch.randint(0, size_px - side + 1, (count, blocks, 2), device=device), side, size_px)


def _side(size_px: int, share: float) -> int:
    return max(1, round(size_px * math.sqrt(share)))


def _squares(corners: Tensor, side: int, size_px: int) -> Tensor:
    places = torch.arange(size_px, device=corners.device)
    inside = (places >= corners[..., None]) & (places < corners[..., None] + side)  # [n, squares, 2, size_px]
    rows, columns = inside.unbind(dim=2)
    return (rows[:, :, :, None] & columns[:, :, None, :]).any(dim=1)


def hide(images: Tensor, hidden: Tensor) -> Tensor:
    """Returns the images with the mean colour of the data where they are hidden.

    Args:
        images: `[n, c, h, w]`, normalised, so that 0 is the mean colour.
        hidden: `[n, h, w]` bool.

    Returns:
        As `images`.
    """
    return images.masked_fill(hidden[:, None], 0.0)


def inpainting_loss(reconstructions: Tensor, images: Tensor, hidden: Tensor) -> Tensor:
    """Compares what was filled in with what was hidden, and nothing else.

    Each image's mean squared error over its hidden values, averaged over the images. Over all pixels, those that the
    encoder sees would outweigh the hole, and copying them through would be rewarded.

    Args:
        reconstructions: `[n, c, h, w]`.
        images: `[n, c, h, w]`, before anything was hidden.
        hidden: `[n, h, w]` bool; an image with nothing hidden counts as 0.

    Returns:
        Scalar, fp32.

    Source: Pathak et al. 2016, arXiv:1604.07379. Differs: no adversary, whose weight is 0.001 in the
        paper, and no heavier weight along the border of the hole.
    """
    with full_precision(images):
        errors = (reconstructions.float() - images.float()).square() * hidden[:, None]
        values = hidden.sum(dim=(1, 2)) * images.shape[1]
        return (errors.sum(dim=(1, 2, 3)) / values.clamp_min(1)).mean()


class Inpainting(Method):
    """Learns an image encoder by filling in holes.

    Args:
        encoder: Reads images with a hole; in use it is shown whole ones.
        config: What is hidden, the decoder and the views.
        context: Gives the size of the views.
    """

    config_type = InpaintingConfig
    recipes = RECIPES

    def __init__(self, encoder: ImageEncoder, config: InpaintingConfig, *, context: MethodContext) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = ImageDecoder(encoder.width, context.image_size_px, channels=config.decoder_channels)
        self.config = config
        self.image_size_px = context.image_size_px

    def views(self) -> tuple[ViewSpec, ...]:
        """Returns the one view that a part is hidden of."""
        return (self.config.view(self.image_size_px),)

    def loss(self, batch: ImageBatch, progress: Progress) -> LossOutput:  # noqa: ARG002 - no schedule in the paper
        """Computes the mean squared error inside the holes.

        Args:
            batch: One view per image.
            progress: Unused.

        Returns:
            The loss; `explained`, the share of the error of the mean colour, which is what the encoder sees in a hole,
            that is gone.
        """
        images = batch.views[0]
        hidden = self._hidden(images)
        representations = self.encoder(hide(images, hidden))
        loss = inpainting_loss(self.decoder(representations), images, hidden)
        blank = inpainting_loss(torch.zeros_like(images), images, hidden)
        return LossOutput(loss, representations.detach(), {"explained": 1 - loss.detach() / blank})

    def _hidden(self, images: Tensor) -> Tensor:
        count, size_px, share = len(images), images.shape[2], self.config.hidden_share
        if self.config.region is HiddenRegion.CENTRE:
            return hide_centre(count, size_px, share=share, device=images.device)
        return hide_blocks(count, size_px, share=share, blocks=self.config.block_count, device=images.device)

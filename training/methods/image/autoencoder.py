"""Autoencoder: an image is pressed through a narrow layer and rebuilt; a denoising one is shown a spoilt image.

Source: Hinton & Salakhutdinov 2006, "Reducing the dimensionality of data with neural networks", Science 313; Vincent
et al. 2008, "Extracting and composing robust features with denoising autoencoders", ICML.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.image.decoder import ImageDecoder
from models.image.encoder import ImageEncoder
from training.losses.precision import full_precision
from training.methods.base import ImageBatch, LossOutput, Method, MethodContext, Progress
from training.methods.recipes import Recipe, RecipeName, Recipes, adamw
from training.views.config import ViewConfig
from training.views.presets import Augmentation
from training.views.spec import ViewSpec

__all__ = ["Autoencoder", "AutoencoderConfig", "reconstruction_loss", "spoil"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencoderConfig(ViewConfig):
    """Autoencoder (Hinton & Salakhutdinov 2006; denoising: Vincent et al. 2008): rebuild an image."""

    bottleneck_width: int = 128
    """Values that the decoder rebuilds an image from; below the image's, or copying it would do."""
    noise_std: float = 0.0
    """Standard deviation of the noise that the encoder's image has, in units of normalised pixels; 0: none."""
    drop_share: float = 0.0
    """Share of the pixels that the encoder's image lacks, in [0, 1); 0: none."""
    decoder_channels: int = 256
    """Channels that the decoder starts from."""
    augmentation: Augmentation = Augmentation.WEAK
    """Set of random changes of the image that is to be rebuilt."""

    def __post_init__(self) -> None:
        if self.bottleneck_width < 1 or self.decoder_channels < 1:
            raise ValueError(
                f"bottleneck_width ({self.bottleneck_width}) and decoder_channels ({self.decoder_channels}) "
                f"must be >= 1"
            )
        if self.noise_std < 0:
            raise ValueError(f"noise_std ({self.noise_std}) must be >= 0")
        if not 0 <= self.drop_share < 1:
            raise ValueError(f"drop_share ({self.drop_share}) must be in [0, 1)")


# What is missing has to be known from what is there; a plain autoencoder learns colours and blurs.
_DENOISING = {"drop_share": 0.3}

RECIPES: Recipes = {
    RecipeName.SCRATCH: Recipe(optimiser=adamw(1e-3), settings=_DENOISING),
    RecipeName.ADAPT: Recipe(optimiser=adamw(1e-4), settings=_DENOISING),
    # The papers train layer by layer and with other optimisers; only the task is theirs.
    RecipeName.PAPER: Recipe(optimiser=adamw(1e-3, 0.0)),
}


def spoil(images: Tensor, *, noise_std: float, drop_share: float) -> Tensor:
    """Adds noise and drops pixels, drawn with torch's default generator.

    Args:
        images: `[n, c, h, w]`, normalised; not changed.
        noise_std: Standard deviation of Gaussian noise on every value; 0 adds none.
        drop_share: Chance of each pixel, in all channels at once, to become 0, the mean colour; 0 drops none.

    Returns:
        As `images`.
    """
    spoilt = images
    if noise_std > 0:
        spoilt = spoilt + noise_std * torch.randn_like(spoilt)
    if drop_share > 0:
        dropped = torch.rand(len(images), 1, *images.shape[2:], device=images.device) < drop_share
        spoilt = spoilt.masked_fill(dropped, 0.0)
    return spoilt


def reconstruction_loss(reconstructions: Tensor, images: Tensor) -> Tensor:
    """Compares rebuilt images with what they should be: the mean squared error over all values.

    Args:
        reconstructions: `[n, c, h, w]`.
        images: `[n, c, h, w]`, clean.

    Returns:
        Scalar, fp32.
    """
    with full_precision(images):
        return F.mse_loss(reconstructions.float(), images.float())


class Autoencoder(Method):
    """Learns an image encoder by rebuilding images.

    Args:
        encoder: Reads the image, spoilt or not.
        config: Bottleneck, noise, decoder and views.
        context: Gives the size of the views.

    Raises:
        ValueError: The bottleneck is as wide as the image.
    """

    config_type = AutoencoderConfig
    recipes = RECIPES

    def __init__(self, encoder: ImageEncoder, config: AutoencoderConfig, *, context: MethodContext) -> None:
        super().__init__()
        values = 3 * context.image_size_px**2
        if config.bottleneck_width >= values:
            raise ValueError(
                f"bottleneck_width ({config.bottleneck_width}) must be < {values}, the values of an image of "
                f"{context.image_size_px} px"
            )
        self.encoder = encoder
        self.bottleneck = nn.Linear(encoder.width, config.bottleneck_width)
        self.decoder = ImageDecoder(config.bottleneck_width, context.image_size_px, channels=config.decoder_channels)
        self.config = config
        self.image_size_px = context.image_size_px

    def views(self) -> tuple[ViewSpec, ...]:
        """Returns the one view that is rebuilt."""
        return (self.config.view(self.image_size_px),)

    def loss(self, batch: ImageBatch, progress: Progress) -> LossOutput:  # noqa: ARG002 - no schedule in the papers
        """Computes the mean squared error of the rebuilt images; the clean ones are the target.

        Args:
            batch: One view per image.
            progress: Unused.

        Returns:
            The loss; `explained`, the share of the error of the mean colour that is gone.
        """
        images = batch.views[0]
        spoilt = spoil(images, noise_std=self.config.noise_std, drop_share=self.config.drop_share)
        codes = self.bottleneck(self.encoder(spoilt))
        loss = reconstruction_loss(self.decoder(codes), images)
        blank = reconstruction_loss(torch.zeros_like(images), images)
        return LossOutput(loss, codes.detach(), {"explained": 1 - loss.detach() / blank})

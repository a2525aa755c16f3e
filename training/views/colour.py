"""Colour changes of a whole batch, every image with factors of its own; equal to torchvision's on floats.

Pixels are planes in [0, 1]: red, green, blue, each `[n, h, w]`.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["adjust_brightness", "adjust_contrast", "adjust_hue", "adjust_saturation", "greyscale", "solarise"]

_LUMA = (0.2989, 0.587, 0.114)  # torchvision's weights of red, green and blue


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Returns the images with every value multiplied.

    Args:
        images: `[n, 3, h, w]` fp32 in [0, 1].
        factor: `[n]`, at least 0; 1 changes nothing.

    Returns:
        As `images`, clipped to [0, 1].
    """
    return (images * _each(factor)).clamp_(0.0, 1.0)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Returns the images with every value's distance from the image's mean grey multiplied.

    Args:
        images: `[n, 3, h, w]` fp32 in [0, 1].
        factor: `[n]`, at least 0; 1 changes nothing.

    Returns:
        As `images`, clipped to [0, 1].
    """
    mean = _luma(images).mean(dim=(1, 2, 3))
    return torch.addcmul(_each(mean * (1 - factor)), images, _each(factor)).clamp_(0.0, 1.0)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Returns the images with every value's distance from its pixel's grey multiplied.

    Args:
        images: `[n, 3, h, w]` fp32 in [0, 1].
        factor: `[n]`, at least 0; 1 changes nothing, 0 leaves grey.

    Returns:
        As `images`, clipped to [0, 1].
    """
    grey = _luma(images).mul_(_each(1 - factor))
    return torch.addcmul(grey, images, _each(factor)).clamp_(0.0, 1.0)


def adjust_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Returns the images with every pixel's hue turned; its value and saturation stay.

    With the hue h on a circle of six, a channel is `V - C clamp(min(k, 4 - k), 0, 1)`, where V is the largest
    channel, C the range of the three, and k = (h + 5, 3, 1) mod 6 for red, green, blue.

    Args:
        images: `[n, 3, h, w]` fp32 in [0, 1].
        turn: `[n]`, in [-0.5, 0.5] of a full circle; 0 changes nothing.

    Returns:
        As `images`.
    """
    red, green, blue = images.unbind(dim=1)
    value = images.amax(dim=1)
    chroma = value - images.amin(dim=1)
    # Hue of six: measured from the largest channel; grey pixels have none, and C = 0 keeps them grey.
    inverse = 1.0 / chroma.clamp_min(1e-12)
    hue = torch.where(
        value == red,
        (green - blue) * inverse,
        torch.where(value == green, (blue - red) * inverse + 2.0, (red - green) * inverse + 4.0),
    )
    hue += turn[:, None, None] * 6.0
    offsets = torch.tensor([5.0, 3.0, 1.0], device=images.device)[:, None, None]
    k = (hue[:, None] + offsets).remainder_(6.0)
    part = torch.minimum(k, 4.0 - k).clamp_(0.0, 1.0)
    return torch.addcmul(value[:, None], part, chroma[:, None], value=-1.0)


def greyscale(images: Tensor, chosen: Tensor) -> Tensor:
    """Returns the images, the chosen ones with three equal channels.

    Args:
        images: `[n, 3, h, w]` fp32 in [0, 1].
        chosen: `[n]` bool.

    Returns:
        As `images`.
    """
    return torch.where(chosen[:, None, None, None], _luma(images), images)


def solarise(images: Tensor, chosen: Tensor, *, threshold: float) -> Tensor:
    """Returns the images, the chosen ones with their bright values inverted.

    Args:
        images: `[n, 3, h, w]` fp32 in [0, 1].
        chosen: `[n]` bool.
        threshold: Values from here on are inverted, in [0, 1].

    Returns:
        As `images`.
    """
    return torch.where(chosen[:, None, None, None] & (images >= threshold), 1.0 - images, images)


def _each(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _luma(images: Tensor) -> Tensor:
    red, green, blue = images.unbind(dim=1)
    grey = (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])
    return grey[:, None]

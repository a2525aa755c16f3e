"""Rotation of a whole batch, every image by an angle of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["rotate"]


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Turns each image about its centre, bilinear; what comes in from outside repeats the nearest border pixel.

    Equal to torchvision's `rotate` of the image padded with its edge, and so to its plain one wherever that reads no
    pixel from outside. A fill of one colour is not taken: corners of it would be an object that the picture has not,
    whose outline tells the angle, and which the colour changes that follow would tint.

    Args:
        images: `[n, c, h, w]` fp32.
        degrees: `[n]`, counter-clockwise.

    Returns:
        As `images`.
    """
    height, width = images.shape[2:]
    angle = torch.deg2rad(degrees)[:, None, None]
    cosine, sine = angle.cos(), angle.sin()
    # From the centre, in pixels. Element by element: a matrix product may be rounded to TF32, which moves pixels.
    x = torch.arange(width, device=images.device) - (width - 1) / 2  # [w]
    y = (torch.arange(height, device=images.device) - (height - 1) / 2)[:, None]  # [h, 1]
    places = torch.stack([(cosine * x - sine * y) * (2 / width), (sine * x + cosine * y) * (2 / height)], dim=3)
    return F.grid_sample(images, places, mode="bilinear", padding_mode="border", align_corners=False)

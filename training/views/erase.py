"""Erasing of a rectangle in every image of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["erase"]


def erase(images: Tensor, boxes: Tensor) -> Tensor:
    """Returns the images with each one's rectangle set to 0; equal to torchvision's `erase` with that value.

    Args:
        images: `[n, c, h, w]`, normalised, so that 0 is the mean of the data.
        boxes: `[n, 4]`: top, left, height, width in whole pixels; a side of 0 erases nothing.

    Returns:
        As `images`.
    """
    top, left, height, width = boxes.unbind(dim=1)
    rows = _between(images.shape[2], top, top + height)
    columns = _between(images.shape[3], left, left + width)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def _between(size: int, start: Tensor, stop: Tensor) -> Tensor:
    places = torch.arange(size, device=start.device)
    return (places >= start[:, None]) & (places < stop[:, None])  # [n, size]

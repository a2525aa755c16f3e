"""Crop, flip and resize of a whole batch, every image with a box of its own, antialiased where it shrinks.

Bilinear resizing with antialiasing is linear and separable: the output is `R X C^T`, where the rows of R and C are
triangles over the box's pixels, as wide as one output pixel. A matrix per image and axis, and two batched products,
crop, flip and resize a batch on any device.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["crop_resize", "interpolation_matrix"]


def interpolation_matrix(start: Tensor, length: Tensor, *, inputs: int, outputs: int) -> Tensor:
    """Builds the weights that resize one axis of each image's box.

    Args:
        start: `[n]` float: first pixel of the box.
        length: `[n]` float: pixels of the box, at least 1; the box lies inside the image.
        inputs: Pixels of the image along the axis.
        outputs: Pixels of the result along the axis.

    Returns:
        `[n, outputs, inputs]` fp32; rows sum to 1, pixels outside the box weigh 0.
    """
    scale = (length / outputs)[:, None]  # box pixels per output pixel
    support = scale.clamp_min(1.0)  # antialiasing: the triangle never covers less than an output pixel
    places = torch.arange(outputs, device=start.device, dtype=torch.float32)
    centre = start[:, None] + (places[None, :] + 0.5) * scale
    pixels = torch.arange(inputs, device=start.device, dtype=torch.float32) + 0.5
    distance = (pixels - centre[:, :, None]).div_(support[:, :, None]).abs_()
    weights = distance.neg_().add_(1.0).clamp_min_(0.0)
    inside = (pixels > start[:, None]) & (pixels < (start + length)[:, None])
    weights *= inside[:, None, :]
    return weights.div_(weights.sum(dim=2, keepdim=True))


def crop_resize(images: Tensor, boxes: Tensor, flip: Tensor, *, size_px: int) -> Tensor:
    """Cuts each image's box out, flips it where told, and resizes it to a square.

    Equal to torchvision's `resized_crop(antialias=True)`, bilinear, within 1/255.

    Args:
        images: `[n, H, W, 3]` uint8.
        boxes: `[n, 4]` float: top, left, height, width in whole pixels, inside the image.
        flip: `[n]` bool: whether to mirror left and right.
        size_px: Side of the result.

    Returns:
        `[n, 3, size_px, size_px]` fp32 in [0, 1].
    """
    count, height, width, channels = images.shape
    top, left, box_height, box_width = boxes.unbind(dim=1)
    rows = interpolation_matrix(top, box_height, inputs=height, outputs=size_px)
    columns = interpolation_matrix(left, box_width, inputs=width, outputs=size_px)
    columns = torch.where(flip[:, None, None], columns.flip(1), columns)
    # Rows first, in the layout the pixels come in: no transposed copy of the full image.
    pixels = images.reshape(count, height, width * channels).float()
    shrunk = torch.bmm(rows, pixels).view(count, size_px, width, channels)
    planes = shrunk.permute(0, 3, 1, 2).reshape(count, channels * size_px, width)
    resized = torch.bmm(planes, columns.transpose(1, 2).contiguous()).mul_(1 / 255)
    return resized.view(count, channels, size_px, size_px)

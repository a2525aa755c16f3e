"""Gaussian blur of a whole batch, every image with a width of its own."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["blur_matrix", "gaussian_blur"]


def blur_matrix(sigma: Tensor, *, size: int, radius: int) -> Tensor:
    """Builds the weights that blur one axis, the border mirrored without repeating its pixel.

    Args:
        sigma: `[n]`, standard deviation in pixels, positive.
        size: Pixels along the axis; more than `radius`.
        radius: Pixels of the kernel to each side.

    Returns:
        `[n, size, size]` fp32; rows sum to 1.
    """
    offsets = torch.arange(-radius, radius + 1, device=sigma.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets[None, :] / sigma[:, None]) ** 2)
    kernel /= kernel.sum(dim=1, keepdim=True)  # [n, 2 radius + 1]
    places = torch.arange(size, device=sigma.device)
    sources = places[:, None] + torch.arange(-radius, radius + 1, device=sigma.device)[None, :]
    mirrored = (size - 1) - ((size - 1) - sources.abs()).abs()  # [size, 2 radius + 1]
    matrix = torch.zeros(len(sigma), size, size, device=sigma.device)
    return matrix.scatter_add_(2, mirrored.expand(len(sigma), -1, -1), kernel[:, None, :].expand(-1, size, -1))


def gaussian_blur(images: Tensor, sigma: Tensor, *, radius: int) -> Tensor:
    """Blurs each image; equal to torchvision's `gaussian_blur` with a kernel of `2 radius + 1`.

    Args:
        images: `[n, c, s, s]` fp32.
        sigma: `[n]`, standard deviation in pixels, positive.
        radius: Pixels of the kernel to each side, below s.

    Returns:
        As `images`.
    """
    count, channels, size, _ = images.shape
    matrix = blur_matrix(sigma, size=size, radius=radius)
    rows = torch.bmm(images.reshape(count, channels * size, size), matrix.transpose(1, 2))
    return torch.matmul(matrix[:, None], rows.view(count, channels, size, size))

"""From a representation back to an image: what reconstructing methods train beside the encoder, and drop."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

__all__ = ["ImageDecoder"]

_UPSAMPLINGS = 4
_LARGEST_START_PX = 8
_FEWEST_CHANNELS = 32


class ImageDecoder(nn.Module):
    """Upsampling convolutions from one vector to an image: four, or more where four would start above 8 px.

    A linear layer makes a small map of features; each step doubles its side by repeating pixels and convolves, 3 by 3,
    to half the channels. Repeating and then convolving leaves none of the checks that transposed convolutions do. The
    last convolution gives red, green and blue as they are: normalised pixels have no bounds to squash them into.

    Args:
        width: Width of the vector.
        size_px: Side of the image.
        channels: Of the map that it starts from.

    Raises:
        ValueError: A number is below 1.
    """

    def __init__(self, width: int, size_px: int, *, channels: int = 256) -> None:
        super().__init__()
        if min(width, size_px, channels) < 1:
            raise ValueError(f"width ({width}), size_px ({size_px}) and channels ({channels}) must be >= 1")
        first, *sides = _sides(size_px)
        self.start = nn.Linear(width, channels * first**2)
        self.unflatten = nn.Unflatten(1, (channels, first, first))
        layers: list[nn.Module] = []
        for side in sides[:-1]:
            outputs = max(_FEWEST_CHANNELS, channels // 2)
            layers += [nn.Upsample(size=side), nn.Conv2d(channels, outputs, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
            channels = outputs
        self.layers = nn.Sequential(*layers, nn.Upsample(size=size_px), nn.Conv2d(channels, 3, 3, padding=1))

    def forward(self, vectors: Tensor) -> Tensor:
        """Reconstructs images.

        Args:
            vectors: `[n, width]`; in training n > 1.

        Returns:
            `[n, 3, size_px, size_px]`, as normalised pixels.
        """
        return cast(Tensor, self.layers(self.unflatten(self.start(vectors)).relu()))


def _sides(size_px: int) -> list[int]:
    """Returns the side of every map, from the first to the image's."""
    sides = [size_px]
    while sides[0] > 1 and (len(sides) <= _UPSAMPLINGS or sides[0] > _LARGEST_START_PX):
        sides.insert(0, -(-sides[0] // 2))
    return sides

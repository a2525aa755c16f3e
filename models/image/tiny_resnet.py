"""A residual network small enough to train on a CPU at 32 px."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

__all__ = ["TINY_STAGES", "TINY_STEM_WIDTH", "TinyResNet"]

TINY_STEM_WIDTH = 32
"""Channels after the stem, which halves the side: what a CPU spends most time on is large, thin layers."""

TINY_STAGES = (32, 64, 128, 256)
"""Channels of each stage, one residual block each; every stage but the first halves the side."""


class TinyResNet(nn.Module):
    """A 3 by 3 stem of stride 2 and one basic block a stage, as in ResNet (arXiv:1512.03385), averaged over the image.

    Chosen among shapes of equal training time on a CPU by cross-vendor retrieval on drawings of the training split.
    """

    def __init__(self) -> None:
        super().__init__()
        self.width = TINY_STAGES[-1]
        self.stem = nn.Sequential(*_convolution(3, TINY_STEM_WIDTH, stride=2), nn.ReLU(inplace=True))
        inputs = (TINY_STEM_WIDTH, *TINY_STAGES)
        self.stages = nn.ModuleList(
            _Block(before, after, stride=1 if position == 0 else 2)
            for position, (before, after) in enumerate(zip(inputs, TINY_STAGES, strict=False))
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pixels: Tensor) -> Tensor:
        """Computes the representation.

        Args:
            pixels: `[n, 3, h, w]` float, normalised.

        Returns:
            `[n, width]`.
        """
        features = self.stem(pixels)
        for stage in self.stages:
            features = stage(features)
        return cast(Tensor, features.mean(dim=(2, 3)))


class _Block(nn.Module):
    """A basic residual block; the shortcut is a convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *_convolution(inputs, outputs, stride=stride),
            nn.ReLU(inplace=True),
            *_convolution(outputs, outputs, stride=1),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inputs == outputs
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Returns `[n, outputs, h / stride, w / stride]`, rounded up, of features `[n, inputs, h, w]`."""
        return cast(Tensor, self.activation(self.main(features) + self.shortcut(features)))


def _convolution(inputs: int, outputs: int, *, stride: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs)

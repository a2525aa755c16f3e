"""What every image encoder is: normalised pixels in, one representation out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from models.config import ImageEncoderConfig
from models.freezing import Layer, LayeredEncoder

__all__ = ["ImageEncoder"]


class ImageEncoder(LayeredEncoder):
    """A backbone without its classifier; `backbone` keeps its library's keys.

    Args:
        config: Its shape.
        backbone: Maps `[n, 3, h, w]` to `[n, width]`.
        width: Width of the representation.
        layers: The backbone's layers from input to output, with names relative to it.
    """

    def __init__(self, config: ImageEncoderConfig, backbone: nn.Module, *, width: int, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.width = width
        self._layers = tuple(
            Layer(layer.name, tuple(f"backbone.{prefix}" for prefix in layer.prefixes)) for layer in layers
        )

    def layers(self) -> Sequence[Layer]:
        """Returns the stem, the stages or blocks in order, and what follows them."""
        return self._layers

    def forward(self, pixels: Tensor) -> Tensor:
        """Computes the representation h, which is what is evaluated and served.

        Args:
            pixels: `[n, 3, h, w]` float, normalised.

        Returns:
            `[n, width]`: the last stage's features averaged over the image, or a ViT's class token; not normalised.
        """
        return cast(Tensor, self.backbone(pixels))

"""What an inner layer of an image encoder knows: its features averaged over the image."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from models.image.encoder import ImageEncoder

__all__ = ["ImageLayer"]


class ImageLayer(nn.Module):
    """An image encoder cut off behind one of its layers.

    Args:
        encoder: The encoder, which is run whole.
        layer: Name of one of its `layers()`.

    Raises:
        ValueError: It has no such layer, or the layer holds parameters alone.
    """

    def __init__(self, encoder: ImageEncoder, layer: str) -> None:
        super().__init__()
        self.encoder = encoder
        layers = {found.name: found for found in encoder.layers()}
        if layer not in layers:
            raise ValueError(f"--layer {layer}: the encoder has no such layer; it has {', '.join(layers)}")
        modules = dict(encoder.named_modules())
        found = [modules[prefix] for prefix in layers[layer].prefixes if prefix in modules]
        if not found:
            raise ValueError(f"--layer {layer}: it holds parameters alone, and gives nothing to measure")
        self._output: Tensor | None = None
        found[-1].register_forward_hook(self._keep)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encodes images by the layer.

        Args:
            pixel_values: `[n, 3, h, w]` float, normalised.

        Returns:
            `[n, c]`: the layer's channels averaged over places or tokens, unit rows.
        """
        self.encoder(pixel_values)
        output, self._output = self._output, None
        if output is None:
            raise RuntimeError("the layer was not run; the encoder skips it")
        features = output.mean(dim=(2, 3)) if output.ndim == 4 else output.mean(dim=1) if output.ndim == 3 else output
        return F.normalize(features.float(), dim=1)

    def _keep(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        self._output = output

"""An image encoder as it is served: unit rows."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from models.image.encoder import ImageEncoder

__all__ = ["ServedImageEncoder"]


class ServedImageEncoder(nn.Module):
    """The representation of an image encoder, at unit length.

    Args:
        encoder: The trained encoder.
    """

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.width = encoder.width

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encodes images as they are served.

        Args:
            pixel_values: `[n, 3, h, w]` float, normalised.

        Returns:
            The image embedding `[n, width]`, unit rows.
        """
        return F.normalize(self.encoder(pixel_values), dim=1)

"""Which sizes an image encoder takes: convolutions any, a vision transformer its own."""

from __future__ import annotations

from collections.abc import Iterable

from models.image.encoder import ImageEncoder

__all__ = ["require_input_sizes"]


def require_input_sizes(encoder: ImageEncoder, sizes_px: Iterable[int]) -> None:
    """Refuses an encoder that cannot read what a method would show it.

    Args:
        encoder: The encoder.
        sizes_px: Sides of everything it is to be shown.

    Raises:
        ValueError: It is a vision transformer, whose positions are of one size, and another size is among them.
    """
    own = encoder.config.image_size_px
    other = next((size for size in sizes_px if size != own), None)
    if other is not None and encoder.config.architecture.startswith("vit"):
        raise ValueError(
            f"{encoder.config.architecture} reads images of {own} px alone, and this method also shows it "
            f"{other} px; choose a ResNet, or, where the method has small views, small-views=0"
        )

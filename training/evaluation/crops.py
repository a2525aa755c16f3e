"""Two views of one picture, for measuring; training's views are made elsewhere, in batches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.bundle.pixels import ImagePreprocessing, resize_image

__all__ = ["make_crop"]

_MIN_AREA = 0.5


def make_crop(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Cuts out a square of half to all of the area, mirrored half of the time, and scales it back.

    Args:
        image: `[s, s, 3]`, a square.
        rng: Source of place, size and mirroring.

    Returns:
        `[s, s, 3]`.
    """
    size = image.shape[0]
    side = max(1, round(size * np.sqrt(rng.uniform(_MIN_AREA, 1.0))))
    top, left = rng.integers(size - side + 1, size=2)
    crop = image[top : top + side, left : left + side]
    mirrored = np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)
    return resize_image(mirrored, ImagePreprocessing(size_px=size))

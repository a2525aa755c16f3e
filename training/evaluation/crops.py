"""Two views of one picture, for measuring; training's views are made elsewhere, in batches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["make_crop"]

_MIN_AREA = 0.5


def make_crop(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Cuts out a square of half to all of the area, mirrored half of the time.

    Args:
        image: `[h, w, 3]`.
        rng: Source of place, size and mirroring.

    Returns:
        `[s, s, 3]`, a contiguous copy.
    """
    height, width = image.shape[:2]
    side = max(1, round(min(height, width) * np.sqrt(rng.uniform(_MIN_AREA, 1.0))))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    crop = image[top : top + side, left : left + side]
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)

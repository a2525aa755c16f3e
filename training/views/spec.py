"""A view, declared: which random changes an image is shown with. Torch-free; `training.views.batched` makes them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

__all__ = ["ViewSpec"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewSpec:
    """One random view of an image; a probability of 0 turns a change off."""

    size_px: int
    """Side of the square it ends in."""
    crop_scale: tuple[float, float] = (0.2, 1.0)
    """Area of the crop as a fraction of the image's, in (0, 1]."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width over height of the crop."""
    flip_probability: float = 0.5
    """Horizontal flip."""
    brightness: float = 0.4
    """Factor drawn from [max(0, 1 - b), 1 + b]."""
    contrast: float = 0.4
    """As brightness."""
    saturation: float = 0.4
    """As brightness."""
    hue: float = 0.1
    """Turn drawn from [-hue, hue], of a full circle, in [0, 0.5]."""
    jitter_probability: float = 0.8
    """Of the four above, together."""
    grey_probability: float = 0.2
    blur_probability: float = 0.0
    blur_sigma_px: tuple[float, float] = (0.1, 2.0)
    """Standard deviation at 224 px; scaled with the view's size."""
    solarise_probability: float = 0.0
    solarise_threshold: float = 0.5
    """Brightness in [0, 1] from which pixels are inverted."""
    rotation_degrees: float = 0.0
    """Turn about the centre drawn from [-r, r], in [0, 180]; the border's pixels fill what comes in from outside."""
    erase_probability: float = 0.0
    """Of a rectangle, last of all, that is set to the mean colour of the data: to 0 once normalised."""
    erase_scale: tuple[float, float] = (0.02, 0.33)
    """Area of the rectangle as a fraction of the view's, in [0, 1]."""
    erase_ratio: tuple[float, float] = (0.3, 3.3)
    """Height over width of the rectangle."""

    def __post_init__(self) -> None:
        """Checks the rotation and the rectangle."""
        if not 0 <= self.rotation_degrees <= 180:
            raise ValueError(f"rotation_degrees ({self.rotation_degrees}) must be in [0, 180]")
        if not 0 <= self.erase_probability <= 1:
            raise ValueError(f"erase_probability ({self.erase_probability}) must be in [0, 1]")
        if not 0 <= self.erase_scale[0] <= self.erase_scale[1] <= 1:
            raise ValueError(f"erase_scale {self.erase_scale} must be two areas in [0, 1], the smaller first")
        if not 0 < self.erase_ratio[0] <= self.erase_ratio[1] < math.inf:
            raise ValueError(f"erase_ratio {self.erase_ratio} must be two positive ratios, the smaller first")

    def scaled(self, strength: float) -> ViewSpec:
        """Returns this view with its colour changes made stronger or weaker.

        The dial is SimCLR's colour strength: crop, flip, rotation, erasing, blur and every probability stay as they
        are, and are set by their own fields.

        Args:
            strength: Factor on brightness, contrast, saturation and hue; 1 leaves them.

        Returns:
            The new view; hue is held to 0.5.
        """
        return replace(
            self,
            brightness=self.brightness * strength,
            contrast=self.contrast * strength,
            saturation=self.saturation * strength,
            hue=min(0.5, self.hue * strength),
        )

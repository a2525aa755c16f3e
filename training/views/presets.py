"""The sets of views that papers use, by name; torch-free. A strength scales a set's colour changes, as one dial."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from training.views.spec import ViewSpec

__all__ = ["Augmentation", "view_of"]

_SMALL_IMAGE_PX = 64
"""Up to this side SimCLR's authors turn blur off and halve the colour strength."""


class Augmentation(StrEnum):
    """A set of random changes, named after where it is from."""

    SIMCLR = "simclr"
    """SimCLR: strong crop and colour; `simclr-32` up to 64 px, `simclr-224` above."""
    SIMCLR_224 = "simclr-224"
    """SimCLR for ImageNet: colour strength 1, blur in half of the views."""
    SIMCLR_32 = "simclr-32"
    """SimCLR for CIFAR-10: colour strength 0.5, no blur."""
    STRONG = "strong"
    """MoCo v2's and MSF's: crops of at least a fifth, colour 0.4, blur in half of the views."""
    WEAK = "weak"
    """MSF's weak view: crop of at least a fifth and flip alone."""
    BYOL_FIRST = "byol-first"
    """BYOL's and Barlow Twins' first view: jitter with half the saturation; above 64 px always blurred."""
    BYOL_SECOND = "byol-second"
    """Their second view: a fifth solarised; above 64 px a tenth blurred."""
    GREY = "grey"
    """For grey images, whose hue and saturation cannot change: crop, flip, brightness, contrast. Our own choice."""


def view_of(
    augmentation: Augmentation, size_px: int, *, strength: float = 1.0, smallest_crop: float | None = None
) -> ViewSpec:
    """Returns the view that a set of changes makes at a size.

    Args:
        augmentation: The set.
        size_px: Side of the view.
        strength: Factor on the colour changes; 1 is the paper's.
        smallest_crop: Least area of the crop as a fraction of the image's, in (0, 1]; None: the set's.

    Returns:
        The view.

    Raises:
        ValueError: `size_px` is below 1, `strength` below 0 or `smallest_crop` outside (0, 1].
    """
    if size_px < 1 or strength < 0:
        raise ValueError(f"a view needs size_px ({size_px}) >= 1 and strength ({strength}) >= 0")
    if smallest_crop is not None and not 0 < smallest_crop <= 1:
        raise ValueError(f"smallest_crop ({smallest_crop}) must be in (0, 1]")
    if augmentation is Augmentation.SIMCLR:
        small = size_px <= _SMALL_IMAGE_PX
        augmentation = Augmentation.SIMCLR_32 if small else Augmentation.SIMCLR_224
    view = _set(augmentation, size_px).scaled(strength)
    return view if smallest_crop is None else replace(view, crop_scale=(smallest_crop, 1.0))


def _set(augmentation: Augmentation, size_px: int) -> ViewSpec:
    match augmentation:
        case Augmentation.SIMCLR_224:
            return ViewSpec(
                size_px=size_px,
                crop_scale=(0.08, 1.0),
                brightness=0.8,
                contrast=0.8,
                saturation=0.8,
                hue=0.2,
                blur_probability=0.5,
            )
        case Augmentation.SIMCLR_32:
            return ViewSpec(size_px=size_px, crop_scale=(0.08, 1.0))
        case Augmentation.BYOL_FIRST:
            blur = 0.0 if size_px <= _SMALL_IMAGE_PX else 1.0
            return ViewSpec(size_px=size_px, crop_scale=(0.08, 1.0), saturation=0.2, blur_probability=blur)
        case Augmentation.BYOL_SECOND:
            blur = 0.0 if size_px <= _SMALL_IMAGE_PX else 0.1
            return ViewSpec(
                size_px=size_px,
                crop_scale=(0.08, 1.0),
                saturation=0.2,
                blur_probability=blur,
                solarise_probability=0.2,
            )
        case Augmentation.WEAK:
            return ViewSpec(size_px=size_px, jitter_probability=0.0, grey_probability=0.0)
        case Augmentation.GREY:
            return ViewSpec(size_px=size_px, saturation=0.0, hue=0.0, grey_probability=0.0)
        case _:
            return ViewSpec(size_px=size_px, blur_probability=0.5)

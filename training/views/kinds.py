"""The kinds of change a view is made of, so that a study can leave some out. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any, Final

from training.views.spec import ViewSpec

__all__ = ["ViewKind", "view_of_kinds"]


class ViewKind(StrEnum):
    """One kind of change."""

    CROP = "crop"
    """Crop and resize."""
    FLIP = "flip"
    COLOUR = "colour"
    """Brightness, contrast, saturation and hue."""
    GREY = "grey"
    BLUR = "blur"
    SOLARISE = "solarise"
    ROTATION = "rotation"
    ERASING = "erasing"


_USUAL: Final[dict[ViewKind, dict[str, Any]]] = {
    ViewKind.CROP: {"crop_scale": (0.08, 1.0), "crop_ratio": (3 / 4, 4 / 3)},
    ViewKind.FLIP: {"flip_probability": 0.5},
    ViewKind.COLOUR: {"jitter_probability": 0.8},
    ViewKind.GREY: {"grey_probability": 0.2},
    ViewKind.BLUR: {"blur_probability": 0.5},
    ViewKind.SOLARISE: {"solarise_probability": 0.2},
    ViewKind.ROTATION: {"rotation_degrees": 45.0},
    ViewKind.ERASING: {"erase_probability": 0.5},
}
_OFF: Final[dict[str, Any]] = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0)}


def view_of_kinds(view: ViewSpec, kinds: Sequence[str]) -> ViewSpec:
    """Returns a view with some kinds of change only.

    A kind that the view has keeps the view's numbers; one that it has not gets usual ones: crops from 0.08 of the area,
    blur and erasing in half of the views, solarising in a fifth, rotation by up to 45 degrees.

    Args:
        view: A whole set of changes.
        kinds: Those to make.

    Returns:
        The view.

    Raises:
        ValueError: There is no such kind.
    """
    unknown = sorted(set(kinds) - set(ViewKind))
    if unknown:
        raise ValueError(f"kinds ({unknown[0]}): no such kind of change; there are {', '.join(ViewKind)}")
    changed: dict[str, Any] = {}
    for kind, settings in _USUAL.items():
        for name, usual in settings.items():
            off = _OFF.get(name, 0.0)
            present = getattr(view, name)
            changed[name] = (usual if present == off else present) if kind in kinds else off
    return replace(view, **changed)

"""What is done to an image before an encoder sees it, and how Hugging Face writes that down. Needs no Pillow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import isfinite
from typing import Any, Final

__all__ = ["ImagePreprocessing", "Resize"]

DRAFT_MARGIN: Final = 2
"""A JPEG's draft has at least this many times the pixels that a side of the square needs."""

_BICUBIC: Final = 3  # Pillow's number, which preprocessor_config.json uses too


class Resize(StrEnum):
    """How an image of any shape becomes a square."""

    SQUASH = "squash"
    """Both sides are scaled to the square; nothing is lost, proportions change."""
    CROP = "crop"
    """The shorter side is scaled and the middle of the longer one kept; proportions stay."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePreprocessing:
    """What is done to an image before the encoder sees it."""

    size_px: int
    """Side of the square, at least 1."""
    resize: Resize = Resize.SQUASH
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted per channel, R G B, of values in [0, 1]."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Divided by per channel, above 0."""
    background: tuple[int, int, int] = (255, 255, 255)
    """What shows through transparent parts, in [0, 255]."""
    shortest_edge_px: int | None = None
    """With `crop`: length the shorter side is scaled to before the middle is cut, at least `size_px`, its default."""
    jpeg_draft: bool = False
    """Whether a large JPEG is decoded at a half, a quarter or an eighth of its size: faster, but other pixels, so it
    belongs to the embedding space, and training's evaluation does the same."""

    def __post_init__(self) -> None:
        """Checks the values against each other."""
        if self.size_px < 1:
            raise ValueError(f"size_px ({self.size_px}) must be at least 1")
        if any(not 0 <= value <= 255 for value in self.background):
            raise ValueError(f"background {self.background} must lie in [0, 255]")
        if any(not value > 0 for value in self.std) or not all(map(isfinite, (*self.mean, *self.std))):
            raise ValueError(f"std {self.std} must be above 0, and mean {self.mean} finite")
        if self.shortest_edge_px is not None and self.shortest_edge_px < self.size_px:
            raise ValueError(f"shortest_edge_px ({self.shortest_edge_px}) must be at least size_px ({self.size_px})")

    @property
    def least_draft_px(self) -> int | None:
        """Shortest side that a JPEG may be decoded to; None where it is decoded whole.

        Twice what the square needs: the antialiased scaling that follows then has enough to choose from.
        """
        return DRAFT_MARGIN * (self.shortest_edge_px or self.size_px) if self.jpeg_draft else None

    def at_size(self, size_px: int) -> ImagePreprocessing:
        """Describes the same for another square: what is cut away stays the same share of an image.

        Args:
            size_px: Side of the square, at least 1.

        Returns:
            The preprocessing.
        """
        edge = self.shortest_edge_px
        scaled = None if edge is None else max(size_px, round(edge * size_px / self.size_px))
        return replace(self, size_px=size_px, shortest_edge_px=scaled)

    def to_config(self) -> dict[str, Any]:
        """Returns it as the content of a Hugging Face `preprocessor_config.json`."""
        square = {"height": self.size_px, "width": self.size_px}
        crops = self.resize is Resize.CROP
        return {
            "image_processor_type": "CLIPImageProcessor" if crops else "ViTImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"shortest_edge": self.shortest_edge_px or self.size_px} if crops else square,
            "do_center_crop": crops,
            "crop_size": square,
            "resample": _BICUBIC,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "background": list(self.background),
            **({"jpeg_draft": True} if self.jpeg_draft else {}),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ImagePreprocessing:
        """Reads the content of a Hugging Face `preprocessor_config.json`.

        Args:
            config: The parsed file; `background` (white where it is missing) and `jpeg_draft` (off) are ours.

        Returns:
            What it asks for.

        Raises:
            ValueError: It asks for what is not done here: no resizing, another filter, an oblong, no normalisation.
        """
        _require_supported(config)
        size, crop = config["size"], config.get("crop_size") or {}
        resize = Resize.CROP if config.get("do_center_crop") else Resize.SQUASH
        side, shortest = (crop, size.get("shortest_edge")) if resize is Resize.CROP else (size, None)
        if side.get("height") is None or side.get("height") != side.get("width"):
            raise ValueError(f"preprocessor_config.json asks for the shape {dict(side)}; only squares are supported")
        return cls(
            size_px=int(side["height"]),
            resize=resize,
            mean=_three_floats(config["image_mean"]),
            std=_three_floats(config["image_std"]),
            background=_three_ints(config.get("background", (255, 255, 255))),
            shortest_edge_px=shortest if shortest not in (None, side["height"]) else None,
            jpeg_draft=bool(config.get("jpeg_draft", False)),
        )


def _require_supported(config: Mapping[str, Any]) -> None:
    wanted = {"do_resize": True, "do_rescale": True, "do_normalize": True, "resample": _BICUBIC}
    for key, value in wanted.items():
        if config.get(key, value) != value:
            raise ValueError(f"preprocessor_config.json has {key} = {config[key]!r}; only {value!r} is supported")
    if abs(config.get("rescale_factor", 1 / 255) - 1 / 255) > 1e-9:
        raise ValueError(
            f"preprocessor_config.json has rescale_factor = {config['rescale_factor']!r}; only 1/255 is supported"
        )
    for key in ("size", "image_mean", "image_std"):
        if key not in config:
            raise ValueError(f"preprocessor_config.json has no {key}")


def _three_floats(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return (red, green, blue)


def _three_ints(values: Sequence[int]) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in values)
    return (red, green, blue)

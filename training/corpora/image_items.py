"""What a reader says of one image, before it is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from training.corpora.splits import Split

__all__ = ["ImageItem"]


@dataclass(frozen=True, slots=True)
class ImageItem:
    """One image to be packed."""

    id: str
    """Unique in its set; the path below its folder, where it is a file."""
    content: Path | bytes
    """The encoded image, or the file that holds it."""
    label: str | None = None
    """Its class, where one is known."""
    group: str | None = None
    """What is kept in one part of the data: pictures that give each other away. Itself alone where None."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """What else is known of it, as `vendor`, `concept`."""
    split: Split | None = None
    """The part its publisher put it in: test stays test, and validation is carved out of train."""

"""What a reader says of one image, before it is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from training.corpora.splits import Split, SplitFractions, assign_split

__all__ = ["ImageItem", "split_of"]


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


def split_of(item: ImageItem, fractions: SplitFractions, seed: int = 0) -> Split:
    """Returns the part of the data an image belongs to.

    Args:
        item: The image.
        fractions: How much is held out.
        seed: Of the division.

    Returns:
        Its publisher's part, with validation carved out of training; else a stable function of its group, or of its id
        where it has none.
    """
    key = item.id if item.group is None else item.group
    if item.split is None:
        return assign_split(key, fractions, seed)
    if item.split is Split.TRAIN:
        # The publisher's test part stays what it is, so only validation is carved out.
        return assign_split(key, SplitFractions(validation=fractions.validation, test=0.0), seed)
    return item.split

"""Fewer training images, as many of every class: a smaller data set with the same held-out images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from training.corpora.image_items import ImageItem, split_of
from training.corpora.splits import Split, SplitFractions

__all__ = ["take_per_class"]


def take_per_class(
    items: Iterable[ImageItem], count: int, *, fractions: SplitFractions, seed: int = 0
) -> Iterator[ImageItem]:
    """Keeps some training images of every class, and all that is held out.

    Which are kept is a stable function of their ids and the seed. All items are held in memory, contents that are no
    files included.

    Args:
        items: All of them, with labels where they are known; those without one count as one class.
        count: Training images of every class to keep, at least 1; a class with fewer keeps them all.
        fractions: How much is held out, as the pack is told.
        seed: Of the division and of the choice.

    Yields:
        The images that are kept, in the order given.

    Raises:
        ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"--train-per-class ({count}) must be >= 1")
    everything = list(items)
    training: dict[str | None, list[tuple[bytes, int]]] = {}
    for place, item in enumerate(everything):
        if split_of(item, fractions, seed) is Split.TRAIN:
            digest = hashlib.sha256(f"{seed}\0{item.id}".encode()).digest()
            training.setdefault(item.label, []).append((digest, place))
    left_out = {place for places in training.values() for _, place in sorted(places)[count:]}
    yield from (item for place, item in enumerate(everything) if place not in left_out)

"""Labelled images beside a batch: as many of every class, drawn anew each step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SupportSampler"]


@dataclass(frozen=True, slots=True)
class SupportSampler:
    """Draws places of labelled images, class by class."""

    by_class: tuple[NDArray[np.int64], ...]
    """Places of each class's labelled images, class 0 first."""
    images_per_class: int
    """Drawn of every class."""

    @classmethod
    def of(cls, labels: NDArray[np.int64], *, images_per_class: int) -> SupportSampler:
        """Sorts labelled images by class.

        Args:
            labels: `[n]`, -1 where there is none.
            images_per_class: To draw of every class, at least 1.

        Returns:
            The sampler.

        Raises:
            ValueError: A class between 0 and the largest label has no labelled image: it would never be predicted.
        """
        classes = range(int(labels.max(initial=-1)) + 1)
        by_class = tuple(np.flatnonzero(labels == name) for name in classes)
        missing = [name for name in classes if not len(by_class[name])]
        if missing or not by_class:
            raise ValueError(f"every class needs a labelled training image; none has one of: {missing or 'any class'}")
        return cls(by_class, images_per_class)

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draws one step's support.

        Args:
            rng: The step's own.

        Returns:
            Places and labels, `[classes * images_per_class]` each, the classes interleaved: 0, 1, ..., 0, 1, ...
            Where a class has fewer images than are drawn, some come twice.
        """
        drawn = [
            np.concatenate([rng.permutation(places) for _ in range(-(-self.images_per_class // len(places)))])
            for places in self.by_class
        ]
        places = np.stack([each[: self.images_per_class] for each in drawn], axis=1).reshape(-1)
        return places.astype(np.int64), np.tile(np.arange(len(drawn), dtype=np.int64), self.images_per_class)

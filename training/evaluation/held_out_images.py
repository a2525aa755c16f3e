"""Held-out images and a subject's vectors of them, shared by the image tasks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.corpora.splits import Split
from training.evaluation.data import ImageData
from training.evaluation.linear_probe import LinearProbe
from training.evaluation.subjects import Advance, ImageSubject

__all__ = ["HeldOutImages", "ImageTaskConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageTaskConfig:
    """Settings of the image tasks."""

    neighbours: int = 20
    """Neighbours of the weighted and of the plain vote; 1 neighbour is asked too."""
    temperature: float = 0.07
    """Of the weighted vote."""
    probe: LinearProbe = field(default_factory=LinearProbe)
    """How the linear probe is fitted."""
    labels_per_class: tuple[int, ...] = (1, 10)
    """Labels of every class that the few-label probes are shown."""
    label_fractions: tuple[float, ...] = ()
    """Shares of every class's labels that further few-label probes are shown, each in (0, 1], such as 0.01 and 0.1."""
    label_draws: int = 3
    """Draws of those labels."""
    bank_items: int | None = None
    """Most training images asked or fitted on, a seeded sample; None: all."""
    originals: bool = False
    """Whether encoders see the originals even where the packed pixels have their size; floors see packed ones."""
    view_pairs: int = 2048
    """Most images whose views are compared where there are no vendors: the first of a seeded order."""
    lidar_images: int = 512
    """Most images that LiDAR takes views of."""
    lidar_views: int = 8
    """Views of each of them."""
    seed: int = 0
    """Of the samples and of the views."""


class HeldOutImages:
    """A subject's vectors of one split, and of the training images, each computed once.

    Args:
        subject: What embeds.
        data: The images.
        split: What is measured.
        config: How many training images are used, and whether originals are.
        advance: Told of progress.
    """

    def __init__(
        self,
        subject: ImageSubject,
        data: ImageData,
        split: Split,
        config: ImageTaskConfig,
        advance: Advance | None = None,
    ) -> None:
        self.subject = subject
        self.data = data
        self.indices = data.indices(split)
        """`[n]`: the split's items, ascending."""
        self.bank_indices = _sample(data.indices(Split.TRAIN), config.bank_items, config.seed)
        """`[b]`: the training items that are used, ascending."""
        self._originals = config.originals
        self._advance = advance
        self._vectors: NDArray[np.float32] | None = None
        self._bank_vectors: NDArray[np.float32] | None = None

    @property
    def vectors(self) -> NDArray[np.float32]:
        """`[n, d]`: the split's vectors."""
        if self._vectors is None:
            self._vectors = self._embed(self.indices)
        return self._vectors

    @property
    def bank_vectors(self) -> NDArray[np.float32]:
        """`[b, d]`: the training items' vectors."""
        if self._bank_vectors is None:
            self._bank_vectors = self._embed(self.bank_indices)
        return self._bank_vectors

    def _embed(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.subject.embed_images(self.data, indices, self._advance, from_originals=self._originals)


def _sample(indices: NDArray[np.int64], limit: int | None, seed: int) -> NDArray[np.int64]:
    if limit is None or len(indices) <= limit:
        return indices
    return np.sort(np.random.default_rng(seed).choice(indices, limit, replace=False))

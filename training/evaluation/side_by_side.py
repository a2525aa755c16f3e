"""What is seen in the vectors themselves: two encoders' likeness, neighbours and a map as pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from training.corpora.splits import Split
from training.evaluation.cka import linear_cka
from training.evaluation.data import ImageData
from training.evaluation.measurement import Measurement
from training.evaluation.pictures import Projection, draw_map, draw_sheet
from training.evaluation.subjects import Advance, ImageSubject

__all__ = ["EmbeddedSplit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddedSplit:
    """One encoder's vectors of a split."""

    name: str
    """What people call the encoder."""
    data: ImageData
    indices: NDArray[np.int64]
    """`[n]`: the split's items."""
    vectors: NDArray[np.float32]
    """`[n, d]`, unit rows."""

    @classmethod
    def of(cls, subject: ImageSubject, data: ImageData, split: Split, advance: Advance | None = None) -> Self:
        """Embeds a split.

        Args:
            subject: The encoder.
            data: The pack.
            split: Part of it.
            advance: Told of progress.

        Returns:
            Its vectors.
        """
        indices = data.indices(split)
        vectors = subject.embed_images(data, indices, advance)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return cls(name=subject.info.name, data=data, indices=indices, vectors=vectors / np.maximum(lengths, 1e-12))

    def likeness(self, other: Self) -> Measurement:
        """Measures how alike two encoders see the split.

        Args:
            other: Another encoder's vectors of the same items.

        Returns:
            Linear CKA.
        """
        return Measurement(
            task="cka",
            metric="linear cka",
            outcome=linear_cka(self.vectors, other.vectors),
            parameters={"with": other.name},
            n_query=len(self.indices),
        )

    def draw_sheet(self, path: Path, *, seed: int = 0) -> None:
        """Draws images of the split with their nearest neighbours.

        Args:
            path: The PNG.
            seed: Of the sample.
        """
        images = self.data.read(self.indices)
        draw_sheet(images, self.vectors, path, title=f"{self.name}: nearest in the split", seed=seed)

    def draw_map(self, path: Path, *, names: tuple[str, ...] = (), by: Projection = Projection.PCA) -> None:
        """Draws the split on a map.

        Args:
            path: The PNG.
            names: Of the classes.
            by: How vectors are projected.
        """
        labels = None if self.data.labels is None else self.data.labels[self.indices]
        draw_map(self.vectors, path, title=self.name, labels=labels, names=names, by=by)

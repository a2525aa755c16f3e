"""What is measured: anything that turns texts or images into vectors, with what identifies it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.bundle.encoder import Modality
from training.evaluation.data import ImageData
from training.evaluation.vectors import Vectors

__all__ = ["Advance", "ImageSubject", "PixelEncoder", "Subject", "SubjectInfo", "TextSubject", "TowerSubject"]

Advance = Callable[[int], None]
"""Called with how many more items are done."""

_IMAGES_PER_BATCH = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class SubjectInfo:
    """What a result row says of its subject."""

    name: str
    """As people call it."""
    fingerprint: str
    """Identifies exactly what was measured."""
    modality: Modality
    layer: str = "embedding"
    """What it gives: `embedding` where it is what would be served, or a floor's own word."""
    seed: int | None = None
    """Of its training; None where it has none."""
    flops: float | None = None
    """Floating-point operations per item; None where not counted."""


class TextSubject(Protocol):
    """Embeds texts."""

    @property
    def info(self) -> SubjectInfo:
        """What a result row says of it."""
        ...

    def embed_texts(self, texts: Sequence[str], advance: Advance | None = None) -> Vectors:
        """Embeds texts as they are served.

        Args:
            texts: At least one; over-long ones are cut.
            advance: Told of progress.

        Returns:
            `[n, d]`, in the order given.
        """
        ...


@runtime_checkable
class TowerSubject(Protocol):
    """A text subject whose training score is known: f of one sentence times g of another."""

    def embed_towers(
        self, texts: Sequence[str], advance: Advance | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embeds texts as training compares them.

        Args:
            texts: At least one.
            advance: Told of progress.

        Returns:
            f and g of each text, `[n, d]` each, whose inner product is the training score.
        """
        ...


class PixelEncoder(Protocol):
    """Embeds decoded images; its own resizing and normalisation is `models.bundle`'s."""

    @property
    def size_px(self) -> int | None:
        """Side of the square it sees; None where any size will do."""
        ...

    def embed_originals(self, originals: Sequence[bytes]) -> NDArray[np.float32]:
        """Embeds a batch of encoded images, decoded as the server decodes them.

        Args:
            originals: At least one.

        Returns:
            `[n, d]`.
        """
        ...

    def embed_rgb(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embeds a batch of images, each `[h, w, 3]`.

        Args:
            images: At least one; sizes may differ.

        Returns:
            `[n, d]`.
        """
        ...


@dataclass(frozen=True, slots=True)
class ImageSubject:
    """Embeds images of a pack: packed pixels where the encoder's size is the pack's, else originals."""

    info: SubjectInfo
    encoder: PixelEncoder

    def embed_images(
        self,
        data: ImageData,
        indices: NDArray[np.int64],
        advance: Advance | None = None,
        *,
        from_originals: bool = False,
    ) -> NDArray[np.float32]:
        """Embeds items of a pack.

        Args:
            data: The pack.
            indices: `[m]`, at least one.
            advance: Told of progress.
            from_originals: Whether originals are decoded even where packed pixels have the right size.

        Returns:
            `[m, d]`.

        Raises:
            ValueError: There is no item, or an original is gone.
        """
        if len(indices) == 0:
            raise ValueError("there are no images to embed: the split is empty")
        decodes = self.encoder.size_px is not None and (from_originals or self.encoder.size_px != data.size_px)
        parts = []
        for start in range(0, len(indices), _IMAGES_PER_BATCH):
            batch = indices[start : start + _IMAGES_PER_BATCH]
            if decodes:
                parts.append(self.encoder.embed_originals([data.original(int(index)) for index in batch]))
            else:
                parts.append(self.encoder.embed_rgb(list(data.read(batch))))
            if advance is not None:
                advance(len(batch))
        return np.concatenate(parts)

    def embed_rgb(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embeds images of any size, such as crops.

        Args:
            images: `[h, w, 3]` each, at least one.

        Returns:
            `[n, d]`.
        """
        blocks = range(0, len(images), _IMAGES_PER_BATCH)
        return np.concatenate([self.encoder.embed_rgb(images[start : start + _IMAGES_PER_BATCH]) for start in blocks])


Subject = TextSubject | ImageSubject
"""Anything that can be measured."""

"""Subjects that are bundles: exactly what a server would answer."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.bundle.encoder import Encoder
from training.evaluation.batching import group_by_length
from training.evaluation.subjects import Advance, SubjectInfo

__all__ = ["BundlePixelEncoder", "BundleTextSubject"]

_TOKENS_PER_BATCH = 8192


class BundleTextSubject:
    """A text bundle.

    Args:
        info: What a result row says of it.
        encoder: The bundle's text encoder.
    """

    def __init__(self, info: SubjectInfo, encoder: Encoder) -> None:
        self._info = info
        self._encoder = encoder

    @property
    def info(self) -> SubjectInfo:
        """What a result row says of it."""
        return self._info

    def embed_texts(self, texts: Sequence[str], advance: Advance | None = None) -> NDArray[np.float32]:
        """Embeds texts as documents.

        Args:
            texts: At least one; over-long ones are cut.
            advance: Told of progress.

        Returns:
            `[n, d]`, in the order given.
        """
        prepared = [self._encoder.prepare(text) for text in texts]
        vectors = np.empty((len(texts), self._encoder.info.dimension), dtype=np.float32)
        for rows in group_by_length([item.cost for item in prepared], budget=_TOKENS_PER_BATCH):
            vectors[rows] = self._encoder.run([prepared[row] for row in rows])
            if advance is not None:
                advance(len(rows))
        return vectors


class BundlePixelEncoder:
    """An image bundle.

    Args:
        encoder: The bundle's image encoder.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    @property
    def size_px(self) -> int:
        """Side of the square it sees."""
        return self._encoder.info.image_size_px

    def embed_originals(self, originals: Sequence[bytes]) -> NDArray[np.float32]:
        """Embeds a batch of encoded images, as a client sends them.

        Args:
            originals: At least one.

        Returns:
            `[n, d]`.
        """
        return self._encoder.run([self._encoder.prepare(original) for original in originals])

    def embed_rgb(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embeds a batch of images, each `[h, w, 3]`, sent as a client would: encoded, here without loss.

        Args:
            images: At least one; sizes may differ.

        Returns:
            `[n, d]`.
        """
        return self.embed_originals([_encode_png(image) for image in images])


def _encode_png(image: NDArray[np.uint8]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()

"""Floors: what an encoder must beat to have learned anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import (  # type: ignore[import-untyped]  # ships no types
    TfidfVectorizer,
)

from models.bundle.encoder import Modality
from models.bundle.identity import digest
from models.bundle.pixels import ImagePreprocessing, resize_image
from training.corpora.document import Document
from training.evaluation.data import ImageData
from training.evaluation.subjects import Advance, ImageSubject, SubjectInfo

__all__ = ["RAW_PIXELS_PX", "RawPixels", "TfIdf", "fit_tf_idf", "raw_pixels"]

RAW_PIXELS_PX = 32
"""Side that images are scaled to before their pixels are compared; smaller ones stay as they are."""

_IMAGES_PER_READ = 1024


class RawPixels:
    """Pixels as the vector: RGB in [0, 1], row by row.

    Args:
        is_grey: Whether one channel says what three would; cosines are the same.
    """

    def __init__(self, *, is_grey: bool = False) -> None:
        self._channels = 1 if is_grey else 3

    @property
    def size_px(self) -> None:
        """Any size will do."""
        return

    @property
    def background(self) -> tuple[int, int, int]:
        """White."""
        return (255, 255, 255)

    def embed_rgb(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Scales a batch of images, each `[h, w, 3]`, to at most 32 px and flattens them.

        Args:
            images: At least one, squares of one size.

        Returns:
            `[n, side * side * channels]`, in [0, 1].
        """
        side = min(RAW_PIXELS_PX, *images[0].shape[:2])
        settings = ImagePreprocessing(size_px=side)
        rows = [resize_image(image, settings)[:, :, : self._channels].reshape(-1) for image in images]
        return np.stack(rows).astype(np.float32) / np.float32(255)


def raw_pixels(data: ImageData) -> ImageSubject:
    """Returns the floor for images.

    Args:
        data: The pack it will be measured on; of grey images one channel is compared.

    Returns:
        A subject that compares pixels.
    """
    is_grey = _is_grey(data)
    fingerprint = digest({"floor": "raw-pixels", "size_px": RAW_PIXELS_PX, "is_grey": is_grey})
    info = SubjectInfo(name="raw-pixels", fingerprint=fingerprint, modality=Modality.IMAGE, layer="pixels", flops=0.0)
    return ImageSubject(info, RawPixels(is_grey=is_grey))


def _is_grey(data: ImageData) -> bool:
    indices = data.indices()
    for start in range(0, len(indices), _IMAGES_PER_READ):
        pixels = data.read(indices[start : start + _IMAGES_PER_READ])
        if (pixels != pixels[..., :1]).any():
            return False
    return True


class TfIdf:
    """Words weighed by rarity: sublinear term frequency, smoothed inverse document frequency, unit rows.

    Args:
        vectorizer: Fitted.
        fingerprint: Identifies the documents it was fitted on.
    """

    def __init__(self, vectorizer: TfidfVectorizer, fingerprint: str) -> None:
        self._vectorizer = vectorizer
        self._info = SubjectInfo(
            name="tf-idf",
            fingerprint=digest({"floor": "tf-idf", "data": fingerprint}),
            modality=Modality.TEXT,
            layer="words",
        )

    @property
    def info(self) -> SubjectInfo:
        """What a result row says of it."""
        return self._info

    def embed_texts(self, texts: Sequence[str], advance: Advance | None = None) -> csr_array[np.float32]:
        """Weighs the known words of each text.

        Args:
            texts: At least one.
            advance: Told of progress.

        Returns:
            `[n, vocabulary]` sparse; a text without a known word is a zero row.
        """
        vectors = csr_array(self._vectorizer.transform(texts), dtype=np.float32)
        if advance is not None:
            advance(len(texts))
        return vectors


def fit_tf_idf(documents: Iterable[Document], fingerprint: str) -> TfIdf:
    """Counts the words of training documents.

    Args:
        documents: The training split, at least one document with a word.
        fingerprint: Identifies them.

    Returns:
        The floor for texts.

    Raises:
        ValueError: There is no word to count.
    """
    vectorizer = TfidfVectorizer(sublinear_tf=True, strip_accents="unicode", dtype=np.float32)
    try:
        vectorizer.fit(" ".join(document.sentences) for document in documents)
    except ValueError as error:
        raise ValueError("tf-idf needs training documents with words; the train split has none") from error
    return TfIdf(vectorizer, fingerprint)

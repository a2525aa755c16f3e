"""Floors: what an encoder must beat to have learned anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import (  # type: ignore[import-untyped]  # ships no types
    TfidfVectorizer,
)

from models.bundle.encoder import Modality
from models.bundle.identity import digest
from models.bundle.pixels import ImagePreprocessing, decode_image, resize_image
from training.corpora.document import Document
from training.corpora.splits import Split
from training.evaluation.data import ImageData
from training.evaluation.subjects import Advance, ImageSubject, SubjectInfo

__all__ = ["RAW_PIXELS_PX", "RawPixels", "TfIdf", "centred_pixels", "fit_tf_idf", "raw_pixels"]

RAW_PIXELS_PX = 32
"""Side that images are scaled to before their pixels are compared; smaller ones stay as they are."""

_IMAGES_PER_READ = 1024


class RawPixels:
    """Pixels as the vector: RGB in [0, 1], row by row.

    Args:
        is_grey: Whether one channel says what three would; cosines are the same.
        mean: Subtracted from each vector, `[d]`; None for nothing.
    """

    def __init__(self, *, is_grey: bool = False, mean: NDArray[np.float32] | None = None) -> None:
        self._channels = 1 if is_grey else 3
        self._mean = mean

    @property
    def size_px(self) -> None:
        """Any size will do."""
        return

    def embed_originals(self, originals: Sequence[bytes]) -> NDArray[np.float32]:
        """Decodes a batch of encoded images and flattens them.

        Args:
            originals: At least one, squares of one size.

        Returns:
            As `embed_rgb`.
        """
        return self.embed_rgb([decode_image(original) for original in originals])

    def embed_rgb(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Scales a batch of images, each `[h, w, 3]`, to at most 32 px and flattens them.

        Args:
            images: At least one, squares of one size.

        Returns:
            `[n, side * side * channels]`, in [0, 1], less the mean.
        """
        side = min(RAW_PIXELS_PX, *images[0].shape[:2])
        settings = ImagePreprocessing(size_px=side)
        rows = [resize_image(image, settings)[:, :, : self._channels].reshape(-1) for image in images]
        pixels = np.stack(rows).astype(np.float32) / np.float32(255)
        return pixels if self._mean is None else pixels - self._mean


def raw_pixels(data: ImageData) -> ImageSubject:
    """Returns the floor for images.

    Args:
        data: The pack it will be measured on; of grey images one channel is compared.

    Returns:
        A subject that compares pixels.
    """
    is_grey = _is_grey(data)
    return _pixel_subject("raw-pixels", {"is_grey": is_grey}, RawPixels(is_grey=is_grey))


def centred_pixels(data: ImageData) -> ImageSubject:
    """Returns a stronger floor for images: pixels less the training images' mean, so that a common background is 0.

    Args:
        data: The pack it will be measured on, with training images.

    Returns:
        A subject that compares pixels.

    Raises:
        ValueError: There are no training images.
    """
    train = data.indices(Split.TRAIN)
    if len(train) == 0:
        raise ValueError("centred-pixels needs training images to take the mean of; the train split has none")
    is_grey = _is_grey(data)
    plain = RawPixels(is_grey=is_grey)
    batches = (train[start : start + _IMAGES_PER_READ] for start in range(0, len(train), _IMAGES_PER_READ))
    sums = [plain.embed_rgb(list(data.read(batch))).sum(axis=0, dtype=np.float64) for batch in batches]
    mean: NDArray[np.float32] = (np.sum(sums, axis=0) / len(train)).astype(np.float32)
    return _pixel_subject("centred-pixels", {"data": data.fingerprint}, RawPixels(is_grey=is_grey, mean=mean))


def _pixel_subject(name: str, settings: Mapping[str, object], pixels: RawPixels) -> ImageSubject:
    fingerprint = digest({"floor": name, "size_px": RAW_PIXELS_PX, **settings})
    info = SubjectInfo(name=name, fingerprint=fingerprint, modality=Modality.IMAGE, layer="pixels", flops=0.0)
    return ImageSubject(info, pixels)


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

"""Small data in memory, and subjects whose vectors are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.bundle.encoder import Modality
from models.bundle.pixels import decode_image
from training.corpora.document import Document
from training.corpora.splits import Split
from training.evaluation.subjects import Advance, ImageSubject, SubjectInfo


@dataclass(frozen=True)
class MemoryTexts:
    """Documents by split."""

    parts: Mapping[Split, Sequence[Document]]
    fingerprint: str = "texts"

    def documents(self, split: Split | None = None) -> Sequence[Document]:
        if split is not None:
            return self.parts.get(split, ())
        return [document for part in self.parts.values() for document in part]


@dataclass(frozen=True)
class MemoryImages:
    """Images in an array; originals are PNGs of the same pixels."""

    pixels: NDArray[np.uint8]
    splits: Sequence[Split]
    labels: NDArray[np.int64] | None = None
    groups: NDArray[np.int64] | None = None
    described: Sequence[Mapping[str, str]] = ()
    fingerprint: str = "images"
    opened: list[int] = field(default_factory=list)
    """Numbers of the originals that were asked for."""

    @property
    def size_px(self) -> int:
        return int(self.pixels.shape[1])

    def indices(self, split: Split | None = None, **attributes: str) -> NDArray[np.int64]:
        chosen = [
            number
            for number, part in enumerate(self.splits)
            if split in (None, part) and attributes.items() <= self.attributes(number).items()
        ]
        return np.array(chosen, dtype=np.int64)

    def attributes(self, index: int) -> Mapping[str, str]:
        return self.described[index] if self.described else {}

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.pixels[indices]

    def original(self, index: int) -> bytes:
        self.opened.append(index)
        buffer = BytesIO()
        Image.fromarray(self.pixels[index]).save(buffer, format="PNG")
        return buffer.getvalue()


@dataclass(frozen=True)
class TableSubject:
    """A text subject that looks vectors up."""

    vectors: Mapping[str, Sequence[float]]
    name: str = "table"
    asked: list[str] = field(default_factory=list)

    @property
    def info(self) -> SubjectInfo:
        return SubjectInfo(name=self.name, fingerprint=f"fingerprint of {self.name}", modality=Modality.TEXT)

    def embed_texts(self, texts: Sequence[str], advance: Advance | None = None) -> NDArray[np.float32]:
        self.asked.extend(texts)
        if advance is not None:
            advance(len(texts))
        return np.array([self.vectors[text] for text in texts], dtype=np.float32)


class MeanColour:
    """An image's mean colour, in [-1, 1], as its vector."""

    def __init__(self, size_px: int | None = None) -> None:
        self.size_px = size_px
        self.batches: list[int] = []

    def embed_originals(self, originals: Sequence[bytes]) -> NDArray[np.float32]:
        return self.embed_rgb([decode_image(original) for original in originals])

    def embed_rgb(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        self.batches.append(len(images))
        return np.stack([image.reshape(-1, 3).mean(axis=0) / 127.5 - 1 for image in images]).astype(np.float32)


def mean_colour(name: str = "colour", size_px: int | None = None) -> ImageSubject:
    """Returns a subject that knows nothing but an image's mean colour."""
    info = SubjectInfo(name=name, fingerprint=f"fingerprint of {name}", modality=Modality.IMAGE, seed=3)
    return ImageSubject(info, MeanColour(size_px))


def plain_images(colours: Sequence[tuple[int, int, int]], size_px: int = 8) -> NDArray[np.uint8]:
    """Returns one image of a single colour each."""
    return np.repeat(np.repeat(np.array(colours, dtype=np.uint8)[:, None, None], size_px, axis=1), size_px, axis=2)

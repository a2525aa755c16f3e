"""Fashion-MNIST, or any data set in MNIST's four IDX files."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.corpora.image_items import ImageItem
from training.corpora.pixel_shards import encode_pixels
from training.corpora.readers.text_files import CorpusError
from training.corpora.splits import Split

__all__ = ["FASHION_CLASSES", "is_idx_folder", "read_fashion_mnist", "read_idx"]

FASHION_CLASSES: Final = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
"""The classes in the order of the published numbers 0-9."""

_PARTS: Final = {"train": Split.TRAIN, "t10k": Split.TEST}
_UINT8: Final = 0x08


def is_idx_folder(folder: Path) -> bool:
    """Returns whether a folder holds MNIST's files.

    Args:
        folder: The folder.

    Returns:
        Whether its training images are there.
    """
    return (folder / "train-images-idx3-ubyte.gz").is_file()


def read_fashion_mnist(folder: Path) -> Iterator[ImageItem]:
    """Reads both published parts; the test part stays what it is.

    Args:
        folder: What `fetch("fashion-mnist")` returned, or the user's own copy of the four `.gz` files.

    Yields:
        70,000 grey images as PNG, labelled, ids as `train/00017`.

    Raises:
        CorpusError: A file is missing or damaged.
    """
    for part, split in _PARTS.items():
        images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
        labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
        if len(images) != len(labels) or images.ndim != 3 or labels.max(initial=0) >= len(FASHION_CLASSES):
            raise CorpusError(f"{folder} has {len(images)} {part} images and {len(labels)} labels that do not fit them")
        for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            name = f"{split.value}/{number:05d}"
            yield ImageItem(name, encode_pixels(pixels), label=FASHION_CLASSES[int(label)], split=split)


def read_idx(file: Path) -> NDArray[np.uint8]:
    """Reads a gzipped IDX file of bytes.

    Args:
        file: The `.gz` file.

    Returns:
        Its array, of the shape it says.

    Raises:
        CorpusError: It is missing, damaged, or holds something else.

    Source: the format's description in the documentation of MNIST: two zero bytes, the type (8: unsigned byte), the
        number of dimensions, each dimension as a big-endian int32, the values in C order.
    """
    try:
        content = gzip.decompress(file.read_bytes())
    except (OSError, EOFError) as error:
        raise CorpusError(f"{file} cannot be read: {error}") from error
    if len(content) < 4 or content[:3] != bytes((0, 0, _UINT8)):
        raise CorpusError(f"{file} is no IDX file of bytes")
    begin = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:begin], dtype=">i4").tolist())
    values = np.frombuffer(content, dtype=np.uint8, offset=begin)
    if values.size != np.prod(shape):
        raise CorpusError(f"{file} holds {values.size:,} values where its shape {shape} needs {np.prod(shape):,}")
    return values.reshape(shape)

"""CIFAR-10 in its binary version, for users who have the files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from training.corpora.image_items import ImageItem
from training.corpora.pixel_shards import encode_pixels
from training.corpora.readers.text_files import CorpusError
from training.corpora.splits import Split

__all__ = ["is_cifar_folder", "read_cifar"]

_SIDE_PX: Final = 32
_RECORD_BYTES: Final = 1 + 3 * _SIDE_PX * _SIDE_PX
_CLASSES: Final = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def is_cifar_folder(folder: Path) -> bool:
    """Returns whether a folder holds CIFAR-10, in either of its versions.

    Args:
        folder: The folder.

    Returns:
        Whether its first training file is there.
    """
    return (folder / "data_batch_1.bin").is_file() or (folder / "data_batch_1").is_file()


def read_cifar(folder: Path) -> Iterator[ImageItem]:
    """Reads the published parts; the test part stays what it is.

    Args:
        folder: `cifar-10-batches-bin`.

    Yields:
        Labelled images as PNG, ids as `data_batch_1/00017`.

    Raises:
        CorpusError: It is the pickled version, or a file is damaged.

    Source: the data set's own description: each record is one byte of label, then 1,024 bytes each of red, green and
        blue, row by row.
    """
    files = sorted(folder.glob("data_batch_*.bin")) + sorted(folder.glob("test_batch.bin"))
    if not files:
        raise CorpusError(
            f"{folder} is the pickled version of CIFAR-10, which is not read (a pickle can run code); "
            "take the binary version, cifar-10-batches-bin"
        )
    for file in files:
        split = Split.TEST if file.stem == "test_batch" else Split.TRAIN
        content = np.fromfile(file, dtype=np.uint8)
        if content.size == 0 or content.size % _RECORD_BYTES:
            raise CorpusError(f"{file} has {content.size:,} bytes, which are not whole records of {_RECORD_BYTES:,}")
        for number, record in enumerate(content.reshape(-1, _RECORD_BYTES)):
            if record[0] >= len(_CLASSES):
                raise CorpusError(f"{file} record {number} has the label {record[0]}; CIFAR-10 has 0 to 9")
            pixels = record[1:].reshape(3, _SIDE_PX, _SIDE_PX).transpose(1, 2, 0)
            name = f"{file.stem}/{number:05d}"
            yield ImageItem(name, encode_pixels(np.ascontiguousarray(pixels)), label=_CLASSES[record[0]], split=split)

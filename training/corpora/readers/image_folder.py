"""The user's own pictures: a folder of any depth, classes from its folders' names where it has some."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from training.corpora.image_items import ImageItem
from training.corpora.readers.text_files import CorpusError
from training.corpora.splits import Split

__all__ = ["IMAGE_SUFFIXES", "has_images", "read_image_folder"]

IMAGE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})
"""Endings of the files that are read, in lower case."""

_SPLIT_FOLDERS: Final = {
    "train": Split.TRAIN,
    "val": Split.VALIDATION,
    "valid": Split.VALIDATION,
    "validation": Split.VALIDATION,
    "test": Split.TEST,
}


def has_images(folder: Path) -> bool:
    """Returns whether a folder holds any file that is named like an image, at any depth.

    Args:
        folder: The folder.

    Returns:
        Whether there is one.
    """
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.rglob("*"))


def read_image_folder(folder: Path) -> Iterator[ImageItem]:
    """Reads all images below a folder, in the order of their paths.

    The first folder below it names the class. Where the first folders are `train`, `val` and `test`, as in the
    ImageFolder layout, they are the parts of the data, and the second names the class.

    Args:
        folder: The folder.

    Yields:
        Items; ids are paths below the folder.

    Raises:
        CorpusError: It is no folder, or holds no images.
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder} is no folder")
    names = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES
    )
    if not names:
        raise CorpusError(f"{folder} holds no image that ends in {', '.join(sorted(IMAGE_SUFFIXES))}")
    divided = "train" in {PurePosixPath(name).parts[0] for name in names} and all(
        PurePosixPath(name).parts[0] in _SPLIT_FOLDERS for name in names
    )
    for name in names:
        parents = PurePosixPath(name).parts[:-1]
        split = _SPLIT_FOLDERS[parents[0]] if divided else None
        classes = parents[1:] if divided else parents
        yield ImageItem(name, folder / name, label=classes[0] if classes else None, split=split)

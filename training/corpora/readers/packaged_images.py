"""The packaged pictures, by the name of their set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from training.corpora.image_items import ImageItem
from training.corpora.readers.emoji import read_emoji
from training.corpora.readers.fashion_mnist import read_fashion_mnist

__all__ = ["IMAGE_READERS"]

IMAGE_READERS: Final[dict[str, Callable[[Path], Iterator[ImageItem]]]] = {
    "emoji": read_emoji,
    "fashion-mnist": read_fashion_mnist,
}
"""Each takes what `fetch` returned."""

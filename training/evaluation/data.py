"""What an evaluation reads: packs, or anything else that offers the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from training.corpora.document import Document
from training.corpora.splits import Split

__all__ = ["ImageData", "TextData"]


class TextData(Protocol):
    """Documents by split, as `TextPack` offers them."""

    @property
    def fingerprint(self) -> str:
        """Identifies exactly this data."""
        ...

    def documents(self, split: Split | None = None) -> Sequence[Document]:
        """Returns the documents of a split, or all."""
        ...


class ImageData(Protocol):
    """Images with what is known of them, as `ImagePack` offers them."""

    @property
    def fingerprint(self) -> str:
        """Identifies exactly this data."""
        ...

    @property
    def size_px(self) -> int:
        """Side of the square images that `read` gives."""
        ...

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """`[n]`, -1 where there is none; None where no item has one."""
        ...

    @property
    def groups(self) -> NDArray[np.int64] | None:
        """`[n]`: what is kept on one side of the split together; None where items are their own."""
        ...

    def indices(self, split: Split | None = None, **attributes: str) -> NDArray[np.int64]:
        """Returns the items of a split with these attributes, ascending."""
        ...

    def attributes(self, index: int) -> Mapping[str, str]:
        """Returns what is known of an item."""
        ...

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Reads items as packed, `[m, h, w, 3]`."""
        ...

    def original(self, index: int) -> bytes:
        """Reads an item's encoded original from its source."""
        ...

"""Every image's latest two embeddings: what it was at its last visit, and at the one before."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["EmbeddingCache", "Previous"]


@dataclass(frozen=True, slots=True)
class Previous:
    """Embeddings of images at their visit before the last."""

    rows: Tensor
    """`[m, d]` fp32; zeros, or what is no embedding of that visit, where not known."""
    known: Tensor
    """`[m]` bool: False where the image has not been visited twice."""


class EmbeddingCache(nn.Module):
    """Keeps two embeddings per image, written in turn: beside the newest, always the one of the visit before.

    The count of an image's visits says which of its two places is written next and whether the other holds anything,
    so that nothing is read that was never seen. Both are buffers, and a restored cache goes on exactly. Under several
    ranks, write the gathered rows, so that every rank holds the same cache.

    Args:
        image_count: Images of the data set.
        width: Width of an embedding.

    Raises:
        ValueError: `image_count` or `width` is below 1.
    """

    vectors: Tensor
    """`[2, image_count, width]` fp32."""
    visits: Tensor
    """`[image_count]` int64: how often each image was written."""

    def __init__(self, image_count: int, width: int) -> None:
        super().__init__()
        if image_count < 1 or width < 1:
            raise ValueError(f"a cache needs at least one image and one value, got {image_count} of width {width}")
        self.register_buffer("vectors", torch.zeros(2, image_count, width))
        self.register_buffer("visits", torch.zeros(image_count, dtype=torch.int64))

    @torch.no_grad()
    def write(self, rows: Tensor, index: Tensor) -> None:
        """Writes a visit of some images over the older of their two embeddings.

        Args:
            rows: `[m, width]`; detached and stored in fp32.
            index: `[m]` int64 in [0, image_count): place of each row's image in the data set, no image twice.

        Raises:
            ValueError: The shapes do not fit.
        """
        width = self.vectors.shape[2]
        if rows.ndim != 2 or rows.shape[1] != width or index.shape != rows.shape[:1]:
            raise ValueError(
                f"expected rows [m, {width}] and index [m], got {list(rows.shape)} and {list(index.shape)}"
            )
        self.vectors[self.visits[index] % 2, index] = rows.detach().float()
        self.visits[index] += 1

    @torch.no_grad()
    def previous(self, index: Tensor) -> Previous:
        """Returns what images were at the visit before their last: after a pass's write, in the pass before.

        Args:
            index: `[m]` int64 in [0, image_count): places in the data set.

        Returns:
            Their embeddings, as copies.
        """
        visits = self.visits[index]
        return Previous(self.vectors[visits % 2, index], visits >= 2)

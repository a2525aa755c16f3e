"""A ring of recent embeddings: queue of negatives for some methods, bank of neighbours for others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["RingBank", "check_bank_size", "own_bank_size"]


class RingBank(nn.Module):
    """Holds the latest embeddings, with the image each came from; the oldest is overwritten first.

    Starts empty rather than with random vectors: only what was written is ever searched. A batch that crosses the end
    wraps; nothing is dropped. Under several ranks, enqueue the gathered rows, so that every rank holds the same bank.
    Vectors and indexes are buffers; the count of writes is saved with them, so that a restored bank goes on exactly.

    Args:
        size: Rows it holds.
        width: Width of a row.

    Raises:
        ValueError: `size` or `width` is below 1.
    """

    vectors: Tensor
    """`[size, width]` fp32."""
    index: Tensor
    """`[size]` int64: place in the data set of the image behind each row; -1 where nothing was written."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        if size < 1 or width < 1:
            raise ValueError(f"a bank needs at least one row of one value, got size {size}, width {width}")
        self.register_buffer("vectors", torch.zeros(size, width))
        self.register_buffer("index", torch.full((size,), -1, dtype=torch.int64))
        # Kept on the host, and saved as extra state: reading it from a device buffer would wait for the device.
        self._written = 0

    @property
    def size(self) -> int:
        """Rows it can hold."""
        return self.vectors.shape[0]

    @property
    def filled(self) -> int:
        """Rows that hold an embedding."""
        return min(self._written, self.size)

    @property
    def position(self) -> int:
        """Row that is written next."""
        return self._written % self.size

    @property
    def valid(self) -> Tensor:
        """The rows that hold an embedding, `[filled, width]`: a view, written through."""
        return self.vectors[: self.filled]

    @property
    def valid_index(self) -> Tensor:
        """The image behind each row of `valid`, `[filled]` int64."""
        return self.index[: self.filled]

    @torch.no_grad()
    def enqueue(self, rows: Tensor, index: Tensor) -> Tensor:
        """Writes a batch over the oldest rows.

        Args:
            rows: `[n, width]`, n at most `size`; detached and stored in fp32.
            index: `[n]` int64: place in the data set of each row's image.

        Returns:
            `[n]` int64: the rows they were written to.

        Raises:
            ValueError: The batch is larger than the bank, or its shapes do not fit.
        """
        count = rows.shape[0]
        if rows.ndim != 2 or rows.shape[1] != self.vectors.shape[1] or index.shape != (count,):
            raise ValueError(
                f"expected rows [n, {self.vectors.shape[1]}] and index [n], "
                f"got {list(rows.shape)} and {list(index.shape)}"
            )
        if count > self.size:
            raise ValueError(f"a batch of {count} does not fit into a bank of {self.size}; use a larger bank")
        slots = torch.arange(self._written, self._written + count, device=self.vectors.device) % self.size
        self.vectors[slots] = rows.detach().float()
        self.index[slots] = index
        self._written += count
        return slots

    def self_fraction(self, neighbours: Tensor, own: Tensor, index: Tensor) -> Tensor:
        """Measures how often an image's neighbours are stale copies of itself: high where the bank is too large.

        Args:
            neighbours: `[n, k]` int64: rows of the bank found for each image.
            own: `[n]` int64: the row each image's embedding was just written to, which does not count.
            index: `[n]` int64: place in the data set of each image.

        Returns:
            Scalar in [0, 1]: copies among the neighbours other than `own`; 0 where there are none.
        """
        others = neighbours != own[:, None]
        copies = others & (self.index[neighbours] == index[:, None])
        return copies.sum() / others.sum().clamp_min(1)

    def get_extra_state(self) -> Tensor:
        """Returns the count of writes, for `state_dict`."""
        return torch.tensor(self._written)

    def set_extra_state(self, state: Tensor) -> None:
        """Restores the count of writes.

        Args:
            state: What `get_extra_state` returned.
        """
        self._written = int(state)


def own_bank_size(largest: int, *, dataset_size: int, batch_size: int) -> int:
    """Returns a bank's size where nobody gives one: half of the data set, within limits.

    Args:
        largest: Rows above which the method gains nothing.
        dataset_size: Images in training.
        batch_size: Rows written in a step, over all ranks.

    Returns:
        At least a batch, at most `largest` where a batch allows it.
    """
    return max(batch_size, min(largest, dataset_size // 2))


def check_bank_size(bank_size: int, *, dataset_size: int, batch_size: int) -> None:
    """Refuses a bank in which every image would meet old copies of itself as neighbours or negatives.

    Args:
        bank_size: Rows of the bank.
        dataset_size: Images in training.
        batch_size: Images of a step, over all ranks.

    Raises:
        ValueError: `bank_size` is not below `dataset_size - batch_size`, or is below the batch.
    """
    limit = dataset_size - batch_size
    if limit <= batch_size:
        raise ValueError(
            f"no bank fits {dataset_size} images in batches of {batch_size}: it must hold a batch and stay below "
            f"{limit} (images minus batch); use batches below {dataset_size // 2}, or more images"
        )
    if not batch_size <= bank_size < limit:
        raise ValueError(
            f"bank_size ({bank_size}) must be in [{batch_size}, {limit - 1}]: at least the batch, and below the data "
            f"set of {dataset_size} minus the batch of {batch_size}, or images meet old copies of themselves"
        )

"""Cuts large batches so that each call fits a message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["MAX_CHUNK_BYTES", "MAX_CHUNK_ITEMS", "MAX_MESSAGE_BYTES", "chunk_slices"]

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
"""The servers' limit, both ways."""
MAX_CHUNK_BYTES = 16 * 1024 * 1024
"""Aim of one call: half of the limit, which leaves room for the replies' vectors."""
MAX_CHUNK_ITEMS = 1_000
"""Most items of one call: their vectors come back in one message."""


def chunk_slices(sizes_bytes: Sequence[int], *, max_items: int = MAX_CHUNK_ITEMS) -> Iterator[slice]:
    """Yields runs of items that fit a call together, in order.

    Args:
        sizes_bytes: Per item its bytes on the wire.
        max_items: Most items of a run, at least 1.

    Yields:
        Slices that cover all items; none for no items.

    Raises:
        ValueError: One item alone is over a message's limit.
    """
    start, run_bytes = 0, 0
    for index, size_bytes in enumerate(sizes_bytes):
        if size_bytes > MAX_MESSAGE_BYTES:
            raise ValueError(f"item {index} takes {size_bytes} bytes, more than a message's {MAX_MESSAGE_BYTES}")
        if index > start and (run_bytes + size_bytes > MAX_CHUNK_BYTES or index - start >= max_items):
            yield slice(start, index)
            start, run_bytes = index, 0
        run_bytes += size_bytes
    if start < len(sizes_bytes):
        yield slice(start, len(sizes_bytes))

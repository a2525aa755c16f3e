"""Batches of texts of similar length, so that little padding is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["group_by_length"]


def group_by_length(lengths: Sequence[int], *, budget: int) -> Iterator[list[int]]:
    """Yields rows, shortest first, whose padded size stays within a budget.

    Args:
        lengths: Tokens of each row.
        budget: Tokens of a batch, padding included; a longer row goes alone.

    Yields:
        Row numbers; each row once.
    """
    rows: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if rows and lengths[row] * (len(rows) + 1) > budget:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows

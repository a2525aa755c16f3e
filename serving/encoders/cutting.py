"""Cuts what waits into batches so that the graph computes least: padding on one side, one more run on the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from serving.encoders.request import PendingItem

__all__ = ["RUN_COST", "cut_batches"]

RUN_COST = 32
"""What a run of a graph costs beside its tokens, in tokens. Two cores and MiniLM: 12 to 16 in fp32, where a token takes
0.12 ms, and twice that in int8, which is twice as fast. Images are all of one size and never cut by it."""


def cut_batches(items: Sequence[PendingItem], *, budget: int) -> Iterator[list[PendingItem]]:
    """Cuts items into batches of like lengths, of all ways the one that computes least.

    The cost of a batch is its items times its longest, and `RUN_COST`. The cuts lie between lengths, and are found by
    dynamic programming over the lengths: the best way to cut all up to one is the best way to cut all up to some
    shorter one, and one batch of what lies between.

    Args:
        items: What waits, in any order.
        budget: Most cost of a batch, counted padded: items times the longest. An item over it runs alone.

    Yields:
        Batches, shortest items first; every item exactly once.
    """
    ordered = sorted(items, key=lambda pending: pending.prepared.cost)
    if len(ordered) == 1:
        yield ordered
        return
    start = 0
    for stop, longest in _cuts([item.prepared.cost for item in ordered], budget):
        # A stretch over the budget is several batches, as equal as may be: a last one of few items would be slow.
        count = stop - start
        batches = -(-count // max(1, budget // longest))
        for number in range(batches):
            yield ordered[start + number * count // batches : start + (number + 1) * count // batches]
        start = stop


def _cuts(costs: Sequence[int], budget: int) -> list[tuple[int, int]]:
    """Returns where each stretch of ascending costs ends, and its largest cost."""
    lengths, counts = np.unique(np.asarray(costs, np.int64), return_counts=True)
    ends = np.concatenate(([0], np.cumsum(counts)))
    fitting = np.maximum(1, budget // np.maximum(1, lengths))
    least = np.zeros(len(lengths) + 1)
    begins = np.zeros(len(lengths) + 1, np.int64)
    for last, length in enumerate(lengths):
        held = ends[last + 1] - ends[: last + 1]
        total = least[: last + 1] + held * length + RUN_COST * -(-held // fitting[last])
        begins[last + 1] = np.argmin(total)
        least[last + 1] = total[begins[last + 1]]
    cuts: list[tuple[int, int]] = []
    last = len(lengths)
    while last > 0:
        cuts.append((int(ends[last]), int(lengths[last - 1])))
        last = int(begins[last])
    return cuts[::-1]

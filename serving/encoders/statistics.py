"""What an encoder has done: counts and distributions that its batcher keeps, and metrics show.

Numbers are added by one thread each and read by any; a reader may see one a moment before another.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Distribution", "EncoderStatistics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ITEMS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)


class Distribution:
    """How often values fell between bounds.

    Args:
        bounds: Rising upper bounds, each included; above the last there is one more place.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        """Upper bounds."""
        self.counts = [0] * (len(self.bounds) + 1)
        """Values up to each bound and above the one before; the last are above all bounds."""
        self.total = 0.0
        """Sum of the values."""

    def add(self, value: float) -> None:
        """Adds a value.

        Args:
            value: At least 0.
        """
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class EncoderStatistics:
    """One encoder's, since it was loaded."""

    item_count: int = 0
    """Items that ran."""
    cost: int = 0
    """Their tokens or pixels."""
    padded_cost: int = 0
    """The same with what padding added: what the graph computed."""
    shared_item_count: int = 0
    """Items that waited for an equal one, already queued or running, instead of running themselves."""
    failed_item_count: int = 0
    """Items of batches that the graph failed on."""
    refused_count: int = 0
    """Requests that found the queue full."""
    cancelled_count: int = 0
    """Requests whose callers had gone before they ran."""
    expired_count: int = 0
    """Requests whose deadline had passed before they ran."""
    batch_items: Distribution = field(default_factory=lambda: Distribution(_ITEMS))
    """Items of a batch."""
    prepare_s: Distribution = field(default_factory=lambda: Distribution(_SECONDS))
    """Seconds from a request's admission until all of it was tokenized or decoded."""
    queue_s: Distribution = field(default_factory=lambda: Distribution(_SECONDS))
    """Seconds from there until its first batch began."""
    compute_s: Distribution = field(default_factory=lambda: Distribution(_SECONDS))
    """Seconds of a batch in the graph."""

"""One caller's embedding request while it waits for its batches, and what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.bundle.encoder import EncoderInfo, Prepared
from serving.errors import ServingError

__all__ = ["BatchRun", "EmbedOutcome", "PendingItem", "PendingRequest"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedOutcome:
    """What became of one request, item by item."""

    info: EncoderInfo
    """The encoder that answered."""
    vectors: NDArray[np.float32]
    """`[n, dimension]`; rows of failed items are zero."""
    errors: Mapping[int, ServingError]
    """Failed indices and why."""
    token_counts: Sequence[int]
    """Tokens of each text after truncation; 0 for images and failed items."""
    truncated: Sequence[bool]
    """Whether each text was cut to the encoder's limit."""
    queue_s: float
    """Seconds from arrival until its first batch started."""
    compute_s: float
    """Seconds its batches ran, those shared with others included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchRun:
    """One run of the graph."""

    start_s: float
    """Monotonic clock, as `end_s`."""
    end_s: float
    item_count: int
    cost: int
    """Tokens or pixels of its items."""
    padded_cost: int
    """The same with padding: what the graph computed."""
    failed: bool = False


@dataclass(slots=True)
class PendingRequest:
    """The state of one request; touched by the batcher's thread only, but for `abandoned`."""

    vectors: NDArray[np.float32]
    remaining: int
    """Items whose vectors are still to come."""
    done: asyncio.Future[None]
    loop: asyncio.AbstractEventLoop
    arrival_s: float
    """Monotonic clock, like every time here."""
    queued_s: float
    """When it was prepared and handed to the batcher."""
    deadline_s: float | None
    abandoned: bool = False
    """Set by the event loop when the caller has gone."""
    first_batch_s: float | None = None
    compute_s: float = 0.0
    failed: bool = False
    batches: list[BatchRun] | None = None
    """The batches that its items ran in, where someone wants to know."""

    def deliver(self, row: int, vector: NDArray[np.float32]) -> None:
        """Takes the vector of one item, and wakes the caller with the last.

        Args:
            row: The item's.
            vector: `[dimension]`.
        """
        self.vectors[row] = vector
        self.remaining -= 1
        if self.remaining == 0:
            self.finish()

    def finish(self, error: BaseException | None = None) -> None:
        """Wakes the caller, with an error or without; later calls change nothing."""
        if self.failed:
            return
        self.failed = error is not None

        def wake() -> None:
            if self.done.done():
                return
            if error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(error)

        try:
            self.loop.call_soon_threadsafe(wake)
        except RuntimeError:
            # The loop has closed: nobody is left to hear of it.
            self.abandoned = True


@dataclass(slots=True)
class PendingItem:
    """One prepared item and where its vector goes; changed under the batcher's lock only."""

    request: PendingRequest
    row: int
    key: bytes
    """Equal items of one encoder have one key."""
    prepared: Prepared = field(repr=False)
    followers: list[tuple[PendingRequest, int]] = field(default_factory=list, repr=False)
    """Further requests for the same item, and their rows."""

    @property
    def targets(self) -> list[tuple[PendingRequest, int]]:
        """Requests and rows that the vector goes to."""
        return [(self.request, self.row), *self.followers]

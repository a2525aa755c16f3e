"""Batching without a timer: what queued while the graph was busy is what runs next.

One thread per encoder takes everything that waits, cuts it into batches of like lengths under a budget, and runs them.
An idle encoder therefore runs a single item at once, and no item is passed over more than once: what arrives meanwhile
waits for the next window, whose size the queue's bound limits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.bundle.encoder import Encoder, Modality
from serving.encoders.cache import KnownItem, VectorCache
from serving.encoders.cutting import cut_batches
from serving.encoders.request import BatchRun, PendingItem, PendingRequest
from serving.encoders.statistics import EncoderStatistics
from serving.errors import Cancelled, DeadlineExceeded, Draining, Overloaded

__all__ = ["Batcher"]

logger = logging.getLogger(__name__)

Target = tuple[PendingRequest, int]
"""A request, and the row of it that a vector goes to."""


def _run_of(ran: Sequence[PendingItem], start_s: float, *, failed: bool = False) -> BatchRun:
    """Describes a batch that has just ended."""
    costs = [item.prepared.cost for item in ran]
    return BatchRun(
        start_s=start_s,
        end_s=time.monotonic(),
        item_count=len(costs),
        cost=sum(costs),
        padded_cost=len(costs) * max(costs),
        failed=failed,
    )


class Batcher:
    """Runs one encoder in a thread of its own.

    Args:
        encoder: What to run.
        batch_budget: Most tokens or pixels a batch, padding included.
        queue_bound: Queued cost from which new requests are refused.
        cache: Keeps what comes out; None keeps nothing.
    """

    def __init__(
        self, encoder: Encoder, *, batch_budget: int, queue_bound: int, cache: VectorCache | None = None
    ) -> None:
        self._encoder = encoder
        self._cache = cache
        self._batch_budget = batch_budget
        self._queue_bound = queue_bound
        self._changed = threading.Condition()
        self._waiting: list[PendingItem] = []
        self._in_flight: dict[bytes, PendingItem] = {}
        """Items that wait or run, by key."""
        self._queued_cost = 0
        self._closing = False
        self.statistics = EncoderStatistics()
        """What it has done."""
        self._thread = threading.Thread(target=self._work, name=f"encoder-{encoder.info.name}", daemon=True)
        self._thread.start()

    @property
    def queued_cost(self) -> int:
        """Tokens or pixels admitted and not yet answered."""
        with self._changed:
            return self._queued_cost

    def admit(self, cost: int) -> None:
        """Reserves room for a whole request, whatever its size, while the queue is under its bound.

        Args:
            cost: Estimated tokens or pixels; given back by `release`.

        Raises:
            Overloaded: The queue is at its bound.
            Draining: The encoder is being closed.
        """
        with self._changed:
            if self._closing:
                raise Draining(f"encoder '{self._encoder.info.name}' is closing and accepts no new work")
            if self._queued_cost >= self._queue_bound:
                self.statistics.refused_count += 1
                unit = "tokens" if self._encoder.info.modality is Modality.TEXT else "pixels"
                raise Overloaded(
                    f"encoder '{self._encoder.info.name}' has {self._queued_cost} {unit} queued, "
                    f"its bound is {self._queue_bound}; try again in a second",
                    retry_after_s=1.0,
                    queued=self._queued_cost,
                    bound=self._queue_bound,
                )
            self._queued_cost += cost

    def release(self, cost: int) -> None:
        """Gives back what `admit` reserved."""
        with self._changed:
            self._queued_cost -= cost
            self._changed.notify_all()

    def enqueue(self, items: Sequence[PendingItem]) -> None:
        """Hands prepared items to the thread; one that waits or runs already is not run again."""
        with self._changed:
            for item in items:
                first = self._in_flight.get(item.key)
                if first is not None:
                    first.followers.append((item.request, item.row))
                    self.statistics.shared_item_count += 1
                    continue
                self._in_flight[item.key] = item
                self._waiting.append(item)
            self._changed.notify_all()

    def close(self, *, timeout_s: float) -> bool:
        """Refuses new work, finishes what was admitted, stops the thread.

        Args:
            timeout_s: Longest wait for admitted work; what is left then is failed.

        Returns:
            Whether all admitted work was finished.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            finished = self._changed.wait_for(lambda: self._queued_cost <= 0, timeout=timeout_s)
            abandoned, self._waiting = self._waiting, []
        for request, _ in self._land(abandoned):
            request.finish(Draining("the server shut down before this request ran"))
        self._thread.join(timeout=timeout_s)
        return finished

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or (self._closing and self._queued_cost <= 0))
                if not self._waiting:
                    return
                window, self._waiting = self._waiting, []
            for batch in cut_batches(window, budget=self._batch_budget):
                self._run(batch)

    def _run(self, batch: Sequence[PendingItem]) -> None:
        started_s = time.monotonic()
        with self._changed:
            wanted = [item for item in batch if self._still_wanted(item, started_s)]
        if not wanted:
            return
        try:
            vectors = self._encoder.run([item.prepared for item in wanted])
        except Exception as error:
            # A defect of the runtime must cost its own batch only, never the thread and so every later caller.
            logger.exception("batch failed", extra={"encoder": self._encoder.info.reference, "items": len(wanted)})
            self.statistics.failed_item_count += len(wanted)
            lost = self._land(wanted)
            self._tell(lost, _run_of(wanted, started_s, failed=True))
            for request, _ in lost:
                request.finish(error)
            return
        run = _run_of(wanted, started_s)
        self._count(run)
        self._keep(wanted, vectors)
        landed = [self._land([item]) for item in wanted]
        self._note_times([target for targets in landed for target in targets], run)
        for targets, vector in zip(landed, vectors, strict=True):
            for request, row in targets:
                request.deliver(row, vector)

    def _keep(self, ran: Sequence[PendingItem], vectors: NDArray[np.float32]) -> None:
        if self._cache is None:
            return
        for item, vector in zip(ran, vectors, strict=True):
            known = KnownItem(vector, item.prepared.cost, item.prepared.truncated)
            self._cache.put(self._encoder.info.fingerprint, item.key, known)

    def _note_times(self, targets: Sequence[Target], run: BatchRun) -> None:
        for request in self._tell(targets, run):
            if request.first_batch_s is None:
                # Who joined an item that was running already waited for nothing.
                request.first_batch_s = max(run.start_s, request.queued_s)
                self.statistics.queue_s.add(request.first_batch_s - request.queued_s)
            request.compute_s += run.end_s - run.start_s

    def _tell(self, targets: Sequence[Target], run: BatchRun) -> Sequence[PendingRequest]:
        """Lets the requests that asked for it know what they ran in; returns all requests, each once."""
        requests = list({id(request): request for request, _ in targets}.values())
        for request in requests:
            if request.batches is not None:
                request.batches.append(run)
        return requests

    def _land(self, items: Sequence[PendingItem]) -> list[Target]:
        """Takes items out of flight, so that nobody joins them any more; returns where their vectors go."""
        with self._changed:
            for item in items:
                self._in_flight.pop(item.key, None)
        return [target for item in items for target in item.targets]

    def _count(self, run: BatchRun) -> None:
        found = self.statistics
        found.item_count += run.item_count
        found.cost += run.cost
        found.padded_cost += run.padded_cost
        found.batch_items.add(run.item_count)
        found.compute_s.add(run.end_s - run.start_s)

    def _still_wanted(self, item: PendingItem, now_s: float) -> bool:
        """Drops an item for which nobody waits any more; under the lock, so that nobody joins it meanwhile."""
        waiting = [request for request, _ in item.targets if self._still_waits(request, now_s)]
        if not waiting:
            self._in_flight.pop(item.key, None)
        return bool(waiting)

    def _still_waits(self, request: PendingRequest, now_s: float) -> bool:
        """Drops work whose caller has gone or whose deadline has passed, before it is computed."""
        if request.failed:
            return False
        if request.abandoned:
            self.statistics.cancelled_count += 1
            request.finish(Cancelled("the caller has gone"))
            return False
        if request.deadline_s is not None and now_s >= request.deadline_s:
            self.statistics.expired_count += 1
            request.finish(
                DeadlineExceeded("the deadline passed while the request was queued; allow more time or send less")
            )
            return False
        return True

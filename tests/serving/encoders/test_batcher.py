"""The batcher: cuts by budget, never waits for more, drops what nobody wants, survives a failing graph."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from itertools import count

import numpy as np
import pytest
from numpy.typing import NDArray

from models.bundle.encoder import EncoderInfo, Modality, Prepared, Purpose
from serving.encoders.batcher import Batcher
from serving.encoders.request import PendingItem, PendingRequest
from serving.encoders.statistics import Distribution
from serving.errors import Cancelled, DeadlineExceeded, Draining, Overloaded

INFO = EncoderInfo(
    name="fake",
    version="1",
    modality=Modality.TEXT,
    dimension=2,
    metric="cosine",
    space="s",
    fingerprint="f",
    precision="fp32",
    max_tokens=100,
    image_size_px=0,
)


class FakeEncoder:
    """Returns each item's cost twice; can be held, and can fail."""

    info = INFO

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.fail = False

    def prepare(self, item: str | bytes, *, purpose: Purpose = Purpose.DOCUMENT, truncate: bool = True) -> Prepared:
        return prepared(len(item))

    def run(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        self.entered.set()
        assert self.gate.wait(10)
        if self.fail:
            raise RuntimeError("the graph broke")
        self.batches.append([item.cost for item in batch])
        return np.array([[item.cost, item.cost] for item in batch], np.float32)


KEYS = (number.to_bytes(8, "big") for number in count())
"""No two items are equal, unless a test says so."""


def prepared(cost: int) -> Prepared:
    return Prepared(np.zeros(cost, np.int64), cost)


def pending(costs: Sequence[int], deadline_s: float | None = None) -> tuple[PendingRequest, list[PendingItem]]:
    loop = asyncio.get_running_loop()
    request = PendingRequest(
        vectors=np.zeros((len(costs), 2), np.float32),
        remaining=len(costs),
        done=loop.create_future(),
        loop=loop,
        arrival_s=time.monotonic(),
        queued_s=time.monotonic(),
        deadline_s=deadline_s,
    )
    return request, [PendingItem(request, row, next(KEYS), prepared(cost)) for row, cost in enumerate(costs)]


async def test_each_row_gets_its_own_vector() -> None:
    batcher = Batcher(FakeEncoder(), batch_budget=12, queue_bound=100)
    request, items = pending([5, 1, 3, 9])
    batcher.enqueue(items)
    await asyncio.wait_for(request.done, 10)
    assert request.vectors[:, 0].tolist() == [5, 1, 3, 9]
    assert batcher.close(timeout_s=5)


async def test_what_queued_while_the_graph_was_busy_is_the_next_batch() -> None:
    encoder = FakeEncoder()
    encoder.gate.clear()
    batcher = Batcher(encoder, batch_budget=100, queue_bound=1000)
    first, first_items = pending([1])
    batcher.enqueue(first_items)
    assert await asyncio.to_thread(encoder.entered.wait, 10)
    later = [pending([cost]) for cost in (4, 2, 3)]
    for _, items in later:
        batcher.enqueue(items)
    encoder.gate.set()
    await asyncio.wait_for(asyncio.gather(first.done, *(request.done for request, _ in later)), 10)
    assert encoder.batches == [[1], [2, 3, 4]]
    batcher.close(timeout_s=5)


async def test_admits_whole_requests_until_the_bound_then_refuses_at_once() -> None:
    batcher = Batcher(FakeEncoder(), batch_budget=10, queue_bound=10)
    batcher.admit(9)
    batcher.admit(50)  # under the bound when it came: admitted whole
    with pytest.raises(Overloaded, match="59 tokens queued, its bound is 10") as refusal:
        batcher.admit(1)
    assert refusal.value.retry_after_s > 0
    batcher.release(50)
    batcher.admit(1)
    batcher.release(10)
    assert batcher.queued_cost == 0
    batcher.close(timeout_s=5)


async def test_drops_expired_and_abandoned_work_before_it_is_computed() -> None:
    encoder = FakeEncoder()
    encoder.gate.clear()
    batcher = Batcher(encoder, batch_budget=100, queue_bound=1000)
    busy, busy_items = pending([1])
    batcher.enqueue(busy_items)
    assert await asyncio.to_thread(encoder.entered.wait, 10)
    expired, expired_items = pending([2], deadline_s=time.monotonic() - 1)
    gone, gone_items = pending([3])
    gone.abandoned = True
    wanted, wanted_items = pending([4])
    batcher.enqueue([*expired_items, *gone_items, *wanted_items])
    encoder.gate.set()
    await asyncio.wait_for(asyncio.gather(busy.done, wanted.done), 10)
    with pytest.raises(DeadlineExceeded):
        await asyncio.wait_for(expired.done, 10)
    with pytest.raises(Cancelled):
        await asyncio.wait_for(gone.done, 10)
    assert encoder.batches == [[1], [4]]
    batcher.close(timeout_s=5)


async def test_a_failing_batch_fails_its_callers_and_not_the_next() -> None:
    encoder = FakeEncoder()
    encoder.fail = True
    batcher = Batcher(encoder, batch_budget=100, queue_bound=1000)
    broken, items = pending([1, 2])
    batcher.enqueue(items)
    with pytest.raises(RuntimeError, match="the graph broke"):
        await asyncio.wait_for(broken.done, 10)
    encoder.fail = False
    healthy, items = pending([3])
    batcher.enqueue(items)
    await asyncio.wait_for(healthy.done, 10)
    assert healthy.vectors[0, 0] == 3
    batcher.close(timeout_s=5)


async def test_close_finishes_what_was_admitted_and_refuses_what_comes_after() -> None:
    encoder = FakeEncoder()
    encoder.gate.clear()
    batcher = Batcher(encoder, batch_budget=100, queue_bound=1000)
    batcher.admit(7)
    request, items = pending([7])
    batcher.enqueue(items)
    closing = asyncio.create_task(asyncio.to_thread(batcher.close, timeout_s=10))
    assert await asyncio.to_thread(encoder.entered.wait, 10)
    while True:
        try:
            batcher.admit(1)
        except Draining:
            break
        batcher.release(1)
        await asyncio.sleep(0.001)
    encoder.gate.set()
    await asyncio.wait_for(request.done, 10)
    batcher.release(7)
    assert await asyncio.wait_for(closing, 10)
    assert request.vectors[0, 0] == 7


async def test_what_was_done_is_counted() -> None:
    encoder = FakeEncoder()
    encoder.gate.clear()
    batcher = Batcher(encoder, batch_budget=100, queue_bound=10)
    first, first_items = pending([3])
    batcher.enqueue(first_items)
    assert await asyncio.to_thread(encoder.entered.wait, 10)
    batcher.admit(10)
    with pytest.raises(Overloaded):
        batcher.admit(1)
    second, second_items = pending([2, 6, 4])
    gone, gone_items = pending([1, 1])
    gone.abandoned = True
    late, late_items = pending([1], deadline_s=time.monotonic() - 1)
    for items in (second_items, gone_items, late_items):
        batcher.enqueue(items)
    encoder.gate.set()
    await asyncio.wait_for(asyncio.gather(first.done, second.done, gone.done, late.done, return_exceptions=True), 10)

    found = batcher.statistics
    assert (found.item_count, found.cost, found.padded_cost) == (4, 15, 3 + 3 * 6)
    assert (found.refused_count, found.cancelled_count, found.expired_count) == (1, 1, 1)
    assert found.batch_items.counts[:3] == [1, 0, 1]  # one of one, one of three
    assert found.batch_items.total == 4
    assert sum(found.queue_s.counts) == 2
    assert sum(found.compute_s.counts) == 2
    assert found.failed_item_count == 0
    batcher.release(10)

    encoder.fail = True
    failing, failing_items = pending([1, 2])
    batcher.enqueue(failing_items)
    await asyncio.wait_for(asyncio.gather(failing.done, return_exceptions=True), 10)
    assert (found.failed_item_count, found.item_count) == (2, 4)
    batcher.close(timeout_s=5)


def test_a_value_on_a_bound_belongs_below_it() -> None:
    found = Distribution([1, 2, 4])
    for value in (0.0, 1.0, 1.5, 4.0, 4.1):
        found.add(value)
    assert found.counts == [2, 1, 1, 1]
    assert found.total == pytest.approx(10.6)


def ask_again(item: PendingItem, *, deadline_s: float | None = None) -> tuple[PendingRequest, list[PendingItem]]:
    """A further request, for an item that is equal to another's."""
    request, [own] = pending([item.prepared.cost], deadline_s)
    own.key = item.key
    return request, [own]


async def test_an_item_in_flight_is_not_run_again() -> None:
    encoder = FakeEncoder()
    encoder.gate.clear()
    batcher = Batcher(encoder, batch_budget=100, queue_bound=1000)
    first, [running] = pending([3])
    batcher.enqueue([running])
    assert await asyncio.to_thread(encoder.entered.wait, 10)
    second, again = ask_again(running)  # while it runs
    batcher.enqueue(again)
    third, [waiting] = pending([5])
    fourth, twice = ask_again(waiting)
    batcher.enqueue([waiting, *twice])
    encoder.gate.set()
    await asyncio.wait_for(asyncio.gather(*(request.done for request in (first, second, third, fourth))), 10)

    assert encoder.batches == [[3], [5]]
    assert [float(request.vectors[0, 0]) for request in (first, second, third, fourth)] == [3, 3, 5, 5]
    assert batcher.statistics.shared_item_count == 2
    fifth, later = ask_again(running)  # when it has landed
    batcher.enqueue(later)
    await asyncio.wait_for(fifth.done, 10)
    assert encoder.batches == [[3], [5], [3]]
    batcher.close(timeout_s=5)


async def test_who_joined_is_served_when_the_first_caller_leaves() -> None:
    encoder = FakeEncoder()
    encoder.gate.clear()
    batcher = Batcher(encoder, batch_budget=100, queue_bound=1000)
    blocker, items = pending([1])
    batcher.enqueue(items)
    assert await asyncio.to_thread(encoder.entered.wait, 10)
    gone, [item] = pending([4])
    stays, again = ask_again(item)
    late, lost = ask_again(item, deadline_s=time.monotonic() - 1)
    batcher.enqueue([item, *again, *lost])
    gone.abandoned = True
    encoder.gate.set()

    await asyncio.wait_for(asyncio.gather(blocker.done, stays.done), 10)
    assert float(stays.vectors[0, 0]) == 4
    for request, expected in ((gone, Cancelled), (late, DeadlineExceeded)):
        with pytest.raises(expected):
            await asyncio.wait_for(request.done, 10)
    batcher.close(timeout_s=5)


async def test_a_failing_graph_fails_those_who_joined_too() -> None:
    encoder = FakeEncoder()
    encoder.fail = True
    encoder.gate.clear()
    batcher = Batcher(encoder, batch_budget=100, queue_bound=1000)
    first, [item] = pending([4])
    batcher.enqueue([item])
    assert await asyncio.to_thread(encoder.entered.wait, 10)
    second, again = ask_again(item)
    batcher.enqueue(again)
    encoder.gate.set()
    for request in (first, second):
        with pytest.raises(RuntimeError, match="the graph broke"):
            await asyncio.wait_for(request.done, 10)
    encoder.fail = False
    third, later = ask_again(item)
    batcher.enqueue(later)
    await asyncio.wait_for(third.done, 10)
    assert float(third.vectors[0, 0]) == 4
    batcher.close(timeout_s=5)

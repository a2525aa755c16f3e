from __future__ import annotations

import asyncio
import time
from typing import cast

import pytest

from serving.collections.collection import Collection
from serving.collections.pressure import write_delay_s
from serving.errors import Overloaded
from serving.ingest import _hold_back


class Behind:
    """A collection whose index is so many rows behind."""

    def __init__(self, overhang: int) -> None:
        self._overhang = overhang

    def write_delay_s(self, record_count: int) -> float:
        return write_delay_s(self._overhang, record_count, 50_000)


def test_writes_are_slowed_with_the_square_of_the_overhang() -> None:
    assert write_delay_s(0, 1_000, 50_000) == 0
    assert write_delay_s(15_000, 1_000, 50_000) == pytest.approx(0.01)
    assert write_delay_s(75_000, 1_000, 50_000) == pytest.approx(0.25)
    assert write_delay_s(149_999, 1_000, 50_000) == pytest.approx(1, rel=1e-3)


def test_far_behind_they_are_refused_with_a_time_to_come_back() -> None:
    with pytest.raises(Overloaded, match="150,000 records behind") as caught:
        write_delay_s(150_000, 1, 50_000)
    assert caught.value.retry_after_s > 0


def test_a_write_that_would_outlast_its_deadline_is_refused_at_once() -> None:
    collection = cast("Collection", Behind(75_000))
    started = time.monotonic()
    with pytest.raises(Overloaded, match="longer than its deadline"):
        asyncio.run(_hold_back(collection, 10_000, started + 1))
    asyncio.run(_hold_back(collection, 100, started + 60))
    assert time.monotonic() - started >= 0.025
    asyncio.run(_hold_back(cast("Collection", Behind(0)), 10_000, started - 1))

"""Which records have expired, and the index without them until they are deleted."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from serving.collections.clock import SteadyClock
from serving.collections.index.masked import without
from serving.collections.index.view import IndexView

__all__ = ["Expiry"]

_NEVER_US = np.iinfo(np.int64).max
_LEAST_PENDING = 4_096
_PENDING_SHARE = 0.125


class Expiry:
    """Knows when records expire; told by the writer's thread, asked by any.

    A record costs 16 bytes here. As long as nothing is due, asking costs a comparison.

    Args:
        entries: `[n, 2]`, expire time in microseconds and key of each record that has one, ascending.
        clock: Tells the time.
    """

    def __init__(self, entries: NDArray[np.int64], clock: SteadyClock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries = entries
        self._passed = 0
        self._recent: list[tuple[int, int]] = []
        self._gone: set[int] = set()
        self._state = self._earliest_us(), np.empty(0, dtype=np.int64)
        self._masked: tuple[IndexView, NDArray[np.int64], IndexView] | None = None

    def expect(self, expiring: Sequence[tuple[int, int]]) -> None:
        """Notes new records, before the index shows them.

        Args:
            expiring: Expire time in microseconds, and key.
        """
        if not expiring:
            return
        with self._lock:
            for entry in expiring:
                heapq.heappush(self._recent, entry)
            if len(self._recent) > max(_LEAST_PENDING, _PENDING_SHARE * len(self._entries)):
                self._merge()
            self._state = self._earliest_us(), self._state[1]

    def forget(self, keys: Sequence[int]) -> None:
        """Notes that records are gone, after the index has ceased to show them.

        Args:
            keys: Of records that were expected to expire.
        """
        if not keys:
            return
        gone = np.sort(np.array(keys, dtype=np.int64))
        with self._lock:
            _, due = self._state
            places = np.searchsorted(due, gone)
            was_due = places < len(due)
            was_due[was_due] = due[places[was_due]] == gone[was_due]
            self._gone.update(gone[~was_due].tolist())
            if was_due.any():
                due = np.delete(due, places[was_due])
            if len(self._gone) > max(_LEAST_PENDING, _PENDING_SHARE * len(self._entries)):
                self._merge()
            self._state = self._earliest_us(), due

    def due(self) -> NDArray[np.int64]:
        """Returns the keys of the records that have expired and are not deleted yet, ascending."""
        earliest_us, due = self._state
        if earliest_us == _NEVER_US:
            return due
        now_us = self._clock.now_us()
        if now_us < earliest_us:
            return due
        with self._lock:
            end = int(np.searchsorted(self._entries[:, 0], now_us, side="right"))
            passed = self._entries[self._passed : end, 1].tolist()
            self._passed = max(self._passed, end)
            while self._recent and self._recent[0][0] <= now_us:
                passed.append(heapq.heappop(self._recent)[1])
            _, due = self._state
            if expired := set(passed) - self._gone:
                due = np.sort(np.concatenate((due, np.fromiter(expired, dtype=np.int64))))
            self._gone.difference_update(passed)
            self._state = self._earliest_us(), due
            return due

    def visible(self, current: Callable[[], IndexView]) -> IndexView:
        """Returns the index without what has expired.

        Args:
            current: Returns the index as it stands.

        Returns:
            A view; the current one where nothing is due.
        """
        while True:
            view = current()
            due = self.due()
            # Still the current view: what it shows was expected before, and is not forgotten yet.
            if current() is view:
                break
        if not len(due):
            return view
        masked = self._masked
        if masked is None or masked[0] is not view or masked[1] is not due:
            masked = self._masked = (view, due, without(view, due))
        return masked[2]

    def _earliest_us(self) -> int:
        first = int(self._entries[self._passed, 0]) if self._passed < len(self._entries) else int(_NEVER_US)
        return min(first, self._recent[0][0]) if self._recent else first

    def _merge(self) -> None:
        recent = np.array(self._recent, dtype=np.int64).reshape(-1, 2)
        entries = np.concatenate((self._entries[self._passed :], recent))
        entries = entries[~np.isin(entries[:, 1], np.fromiter(self._gone, dtype=np.int64))]
        self._entries = entries[np.argsort(entries[:, 0], kind="stable")]
        self._passed, self._recent, self._gone = 0, [], set()

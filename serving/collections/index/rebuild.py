"""When a base is due, and the background work that builds one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from enum import StrEnum

from serving.collections.config import CollectionsConfig
from serving.collections.index.base import Base
from serving.collections.index.live import LiveIndex
from serving.collections.types import IndexKind
from serving.errors import Draining

__all__ = ["Due", "Rebuilder", "what_is_due"]

logger = logging.getLogger(__name__)


class Due(StrEnum):
    """What the index needs."""

    NOTHING = "nothing"
    BUILD = "build"
    DROP = "drop"


def what_is_due(index: LiveIndex, kind: IndexKind, config: CollectionsConfig) -> Due:
    """Says whether a base should be built, or dropped because the collection has shrunk.

    Args:
        index: As it stands.
        kind: What the collection asked for.
        config: Thresholds.

    Returns:
        What to do; a base goes only at half the size at which it came, so that it does not come and go.
    """
    if kind is IndexKind.EXACT:
        return Due.NOTHING
    least = config.hnsw_min_records if kind is IndexKind.HNSW else config.auto_index_records
    live, base = index.view.record_count, index.base_row_count
    if base == 0:
        return Due.BUILD if live >= least else Due.NOTHING
    if live < least / 2:
        return Due.DROP
    bound = min(config.tail_max_records, max(config.tail_min_records, int(config.tail_fraction * base)))
    dead = base - index.view.base_alive_count
    return Due.BUILD if index.tail_row_count >= bound or dead > config.dead_fraction * base else Due.NOTHING


class Rebuilder:
    """Keeps one collection's base fresh; at most one build at a time.

    Args:
        due: Says what the index needs now; called from several threads.
        build: Builds and publishes a base; `None` where it was cancelled.
        install: Puts the new base, or none, in place of the old.
        executor: Runs the builds.
        retry_records: Writes after a failed build before the next attempt.
    """

    def __init__(
        self,
        *,
        due: Callable[[], Due],
        build: Callable[[Callable[[], bool]], Base | None],
        install: Callable[[Base | None], None],
        executor: Executor,
        retry_records: int,
    ) -> None:
        self._due = due
        self._build = build
        self._install = install
        self._executor = executor
        self._retry_records = retry_records
        self._changed = threading.Condition()
        self._running: Future[None] | None = None
        self._closed = threading.Event()
        self._resume_at = 0

    def consider(self, sequence: int) -> None:
        """Starts a build if one is due and none runs.

        Args:
            sequence: What the index has reached.
        """
        with self._changed:
            if self._closed.is_set() or self._running is not None or sequence < self._resume_at:
                return
            if self._due() is Due.NOTHING:
                return
            try:
                self._running = self._executor.submit(self._run, sequence)
            except RuntimeError:
                # The process is ending. A write must not fail for want of an index.
                logger.debug("index build not started: shutting down")

    def settle(self, timeout_s: float) -> bool:
        """Waits until no build runs.

        Args:
            timeout_s: Longest wait.

        Returns:
            Whether none runs.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._running is None, timeout_s)

    def close(self) -> None:
        """Gives up a running build and starts no other; returns when it has stopped."""
        self._closed.set()
        with self._changed:
            if self._running is not None and self._running.cancel():
                self._running = None
            self._changed.wait_for(lambda: self._running is None)

    def _run(self, sequence: int) -> None:
        try:
            while (due := self._next()) is not Due.NOTHING:
                base = self._build(self._closed.is_set) if due is Due.BUILD else None
                if due is Due.DROP or base is not None:
                    self._install(base)
        except Draining:
            logger.debug("index build overtaken by shutdown")
            self._stop()
        except Exception:
            # The index stays as it is: complete, only slower. Trying again at once would fail again at once.
            logger.exception("index build failed")
            self._resume_at = sequence + self._retry_records
            self._stop()

    def _next(self) -> Due:
        """Returns what to do next; with nothing left, the build ends before a commit can ask for another."""
        with self._changed:
            due = Due.NOTHING if self._closed.is_set() else self._due()
            if due is Due.NOTHING:
                self._stop()
            return due

    def _stop(self) -> None:
        with self._changed:
            self._running = None
            self._changed.notify_all()

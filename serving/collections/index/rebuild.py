"""When a base is due, and the background work that builds one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from enum import StrEnum

from serving.collections.config import CollectionsConfig
from serving.collections.index.ann.choice import least_records
from serving.collections.index.base import Base, built_for
from serving.collections.index.live import LiveIndex
from serving.collections.types import CollectionSpec
from serving.errors import Draining

__all__ = ["Due", "Rebuilder", "tail_bound", "what_is_due"]

logger = logging.getLogger(__name__)


class Due(StrEnum):
    """What the index needs."""

    NOTHING = "nothing"
    BUILD = "build"
    DROP = "drop"


def what_is_due(index: LiveIndex, spec: CollectionSpec, config: CollectionsConfig) -> Due:
    """Says whether a base should be built, or dropped because the collection has shrunk.

    Args:
        index: As it stands.
        spec: What the collection is, and what index it is asked to have.
        config: Thresholds.

    Returns:
        What to do; a base goes only at half the size at which it came, so that it does not come and go.
    """
    least = least_records(spec.index, config)
    live, base = index.view.record_count, index.base
    if base is None:
        return Due.BUILD if live >= least else Due.NOTHING
    if live < least / 2:
        return Due.DROP
    rows = len(base.rows)
    dead = rows - index.view.base_alive_count
    stale = index.tail_row_count >= tail_bound(rows, config) or dead > config.dead_fraction * rows
    return Due.BUILD if stale or _is_another(base, spec) else Due.NOTHING


def tail_bound(base_rows: int, config: CollectionsConfig) -> int:
    """Returns how long the tail may grow until the base is rebuilt.

    Args:
        base_rows: Rows of the base.
        config: Thresholds.

    Returns:
        Rows.
    """
    return min(config.tail_max_records, max(config.tail_min_records, int(config.tail_fraction * base_rows)))


def _is_another(base: Base, spec: CollectionSpec) -> bool:
    """Whether the base was built for another specification, or has lost its index since."""
    if base.wanted != built_for(spec.index):
        return True
    if base.graph is not None:
        return False
    return not spec.index.is_exact


class Rebuilder:
    """Keeps one collection's base fresh; at most one build at a time.

    Args:
        due: Says what the index needs now; called from several threads.
        build: Builds and publishes a base, telling how far it is and asking whether to go on; `None` where not.
        install: Puts the new base, or none, in place of the old.
        executor: Runs the builds.
        retry_records: Writes after a failed build before the next attempt.
        pending: Says how many rows the tail has.
    """

    def __init__(
        self,
        *,
        due: Callable[[], Due],
        build: Callable[[Callable[[float], bool]], Base | None],
        install: Callable[[Base | None], None],
        executor: Executor,
        retry_records: int,
        pending: Callable[[], int],
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
        self._progress: float | None = None
        self._pending = pending
        self.started_at: int | None = None
        """Rows of the tail when the running build began; `None` where none runs."""

    @property
    def progress(self) -> float | None:
        """How far the running build is, in [0, 1]; `None` where none runs."""
        return self._progress

    def consider(self, sequence: int, *, anew: bool = False) -> None:
        """Starts a build if one is due and none runs.

        Args:
            sequence: What the index has reached.
            anew: Whether to try although the last build failed not long ago.
        """
        with self._changed:
            if anew:
                self._resume_at = 0
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
                self.started_at = self._pending()
                base = self._build(self._go_on) if due is Due.BUILD else None
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

    def _go_on(self, share: float) -> bool:
        self._progress = share
        return not self._closed.is_set()

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
            self._progress = self.started_at = None
            self._changed.notify_all()

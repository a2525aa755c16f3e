"""How many of the true neighbours searches find: a sample of them is repeated exactly, on the very state they saw."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.collections.index.ann.effort import harder
from serving.collections.index.view import Found, IndexView
from serving.collections.index_types import RecallEstimate
from serving.errors import ServingError

__all__ = ["RecallMeter", "RecallReplayer", "wilson_interval"]

logger = logging.getLogger(__name__)

_K = 10
_PENDING = 64
_WINDOW = 1_000
_ENOUGH = 50
"""Replayed queries from which the controller believes the figure."""
_Z = 1.96
_LEAST_PAUSE_S = 0.25
_NICENESS = 19


@dataclass(frozen=True, slots=True)
class _Sampled:
    """One query and what was found."""

    view: IndexView
    query: NDArray[np.float32]
    scores: NDArray[np.float32]
    k: int


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share.

    Each query counts as one trial although it has ten neighbours, which hit and miss together: on the safe side.

    Args:
        share: In [0, 1].
        count: Trials, at least 1.

    Returns:
        Its ends, in [0, 1].
    """
    spread = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    centre, scale = share + _Z**2 / (2 * count), 1 + _Z**2 / count
    # Rounding shall not put the share itself outside.
    return max(0.0, (centre - spread) / scale), min(1.0, max(share, (centre + spread) / scale))


class RecallMeter:
    """Measures one collection; searches offer, one background thread replays."""

    def __init__(self) -> None:
        self._pending: deque[_Sampled] = deque(maxlen=_PENDING)
        self._results: deque[float] = deque(maxlen=_WINDOW)
        self._subject: tuple[object, object] | None = None
        self.target_recall = 0.0
        """Recall@10 that is held by searching harder; 0: it is only measured."""
        self.replayed_count = 0
        """Queries replayed since the start."""

    def offer(self, view: IndexView, queries: NDArray[np.float32], k: int, found: Sequence[Found]) -> None:
        """Takes one query of a search into the sample, if there is room; costs next to nothing.

        Args:
            view: The state that was searched.
            queries: `[m, d]`, m at least 1, prepared.
            k: Neighbours asked for.
            found: What each query found, in full: no threshold cut it.
        """
        if view.graph is None or len(self._pending) >= _PENDING:
            return
        row = self.replayed_count % len(queries)
        self._pending.append(_Sampled(view, queries[row].copy(), found[row].scores, min(k, _K)))

    def replay(self) -> None:
        """Repeats the pending queries exactly, those of one state together."""
        taken = [self._pending.popleft() for _ in range(len(self._pending))]
        while taken:
            view = taken[0].view
            self._replay([one for one in taken if one.view is view], view)
            taken = [one for one in taken if one.view is not view]

    def estimate(self) -> RecallEstimate | None:
        """Returns what the last replayed queries say of the index as it is searched now; `None`: nothing yet."""
        results = list(self._results)
        if not results:
            return None
        recall = float(np.mean(results))
        low, high = wilson_interval(recall, len(results))
        return RecallEstimate(recall=recall, low=low, high=high, query_count=len(results))

    def _replay(self, sampled: list[_Sampled], view: IndexView) -> None:
        assert view.graph is not None
        subject = (view.graph, view.graph.effort)
        if subject != self._subject:
            # Another index, or another effort: what was measured before says nothing of it.
            self._subject = subject
            self._results.clear()
        queries = np.stack([one.query for one in sampled])
        truth = view.search(queries, _K, exact=True, score_threshold=None)
        for one, exact in zip(sampled, truth, strict=True):
            self.replayed_count += 1
            k = min(one.k, len(exact.scores))
            if k:
                # By score: of neighbours that tie, any is right.
                self._results.append(float(np.count_nonzero(one.scores[:k] >= exact.scores[k - 1])) / k)
        self._hold(view)

    def _hold(self, view: IndexView) -> None:
        assert view.graph is not None
        estimate = self.estimate()
        if not self.target_recall or estimate is None or estimate.query_count < _ENOUGH:
            return
        if estimate.recall < self.target_recall:
            effort = harder(view.graph.effort, view.graph.plan)
            if effort != view.graph.effort:
                detail = f"recall {estimate.recall:.3f} is below {self.target_recall:.3f}: {effort}"
                logger.info("searching harder", extra={"detail": detail})
                view.graph.effort = effort


class RecallReplayer:
    """One thread that replays for all collections, at the lowest priority and on a bounded share of one core.

    Args:
        cpu_share: The share, in [0, 1); 0: nothing is measured.
    """

    def __init__(self, cpu_share: float) -> None:
        self._cpu_share = cpu_share
        self._meters: set[RecallMeter] = set()
        self._changing = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recall", daemon=True)
        if cpu_share:
            self._thread.start()

    def add(self, meter: RecallMeter) -> None:
        """Begins to measure a collection.

        Args:
            meter: Its meter.
        """
        with self._changing:
            self._meters.add(meter)

    def remove(self, meter: RecallMeter) -> None:
        """Forgets a collection that is closed.

        Args:
            meter: Its meter.
        """
        with self._changing:
            self._meters.discard(meter)

    def close(self) -> None:
        """Stops after the batch that runs; closing twice is harmless."""
        self._stopped.set()
        if self._cpu_share:
            self._thread.join()

    def _run(self) -> None:
        # Linux gives each thread a niceness of its own.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while True:
            before_s = time.thread_time()
            with self._changing:
                meters = list(self._meters)
            for meter in meters:
                self._replay(meter)
            spent_s = time.thread_time() - before_s
            if self._stopped.wait(max(_LEAST_PAUSE_S, spent_s * (1 / self._cpu_share - 1))):
                return

    def _replay(self, meter: RecallMeter) -> None:
        try:
            meter.replay()
        except ServingError as error:
            logger.debug("recall not measured", extra={"detail": error.message})
        except Exception:
            logger.exception("recall could not be measured")

"""The metrics of all processes of a server as one exposition: each series says whose it is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

__all__ = ["FleetMetrics"]

OWNER = 0
ASK_S = 5.0
"""Longest wait for the event loop and all workers, who are asked at the same time."""


class _Told(Protocol):
    """Tells of workers; as `Fleet` does."""

    async def expositions(self) -> Mapping[int, bytes]: ...

    def up(self) -> Mapping[int, bool]: ...

    def start_counts(self) -> Mapping[int, int]: ...


class FleetMetrics(Collector):
    """Adds a label `worker` to the metrics of every process, 0 for the owner's.

    They are not summed: a process that is replaced begins at 0 again, and of a sum nobody could tell.

    Args:
        own: The owner's.
        fleet: Tells of the others.
    """

    def __init__(self, own: CollectorRegistry, fleet: _Told) -> None:
        self._own = own
        self._fleet = fleet
        self.loop: asyncio.AbstractEventLoop | None = None
        """Where the fleet runs, once it does."""

    def collect(self) -> Iterator[Any]:
        """Yields every family of every process; blocks, so that it must not be called on the event loop."""
        merged: dict[str, Metric] = {}
        for number, exposition in {OWNER: generate_latest(self._own), **self._told()}.items():
            for family in text_string_to_metric_families(exposition.decode()):
                into = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    into.add_sample(sample.name, {**sample.labels, "worker": str(number)}, sample.value)
        yield from merged.values()
        up = GaugeMetricFamily("diptych_worker_up", "1 where the worker answers, else 0.", labels=["worker"])
        for number, answers in self._fleet.up().items():
            up.add_metric([str(number)], float(answers))
        starts = CounterMetricFamily("diptych_worker_starts", "Times the worker was started.", labels=["worker"])
        for number, count in self._fleet.start_counts().items():
            starts.add_metric([str(number)], count)
        yield from (up, starts)

    def _told(self) -> Mapping[int, bytes]:
        if self.loop is None or not self.loop.is_running():
            return {}
        try:
            return asyncio.run_coroutine_threadsafe(self._fleet.expositions(), self.loop).result(ASK_S)
        except TimeoutError:
            return {}

"""What the encoders have done, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from serving.encoders.pool import EncoderPool
from serving.encoders.state import EncoderPhase
from serving.encoders.statistics import Distribution, EncoderStatistics

__all__ = ["EncoderMetrics"]

_COUNTERS: Mapping[str, tuple[str, Callable[[EncoderStatistics], float]]] = {
    "items": ("Inputs that ran.", lambda found: found.item_count),
    "cost": ("Tokens or pixels of these inputs.", lambda found: found.cost),
    "padded_cost": ("The same with padding: what the graph computed.", lambda found: found.padded_cost),
    "shared_items": ("Inputs that waited for an equal one in flight.", lambda found: found.shared_item_count),
    "failed_items": ("Inputs of batches that the graph failed on.", lambda found: found.failed_item_count),
    "refused": ("Requests that found the queue full.", lambda found: found.refused_count),
}
_DROPPED: Mapping[str, Callable[[EncoderStatistics], float]] = {
    "cancelled": lambda found: found.cancelled_count,
    "deadline": lambda found: found.expired_count,
}
_STAGES: Mapping[str, Callable[[EncoderStatistics], Distribution]] = {
    "prepare": lambda found: found.prepare_s,
    "queue": lambda found: found.queue_s,
    "compute": lambda found: found.compute_s,
}


class EncoderMetrics(Collector):
    """Reads the encoders' own counts whenever it is asked.

    Args:
        pool: The encoders.
    """

    def __init__(self, pool: EncoderPool) -> None:
        self._pool = pool

    def collect(self) -> Iterator[Any]:
        """Yields every family of metrics, each with all encoders."""
        running = self._pool.roster.running()
        statistics = {reference: one.batcher.statistics for reference, one in running.items()}
        serving = GaugeMetricFamily("diptych_encoder_serving", "1 where it answers, else 0.", labels=["encoder"])
        for name, state in self._pool.roster.states().items():
            serving.add_metric([name], float(state.phase is EncoderPhase.SERVING))
        yield serving
        queued = GaugeMetricFamily(
            "diptych_encoder_queued_cost", "Tokens or pixels admitted and not yet answered.", labels=["encoder"]
        )
        for name, one in running.items():
            queued.add_metric([name], one.batcher.queued_cost)
        yield queued
        for counted, (text, read) in _COUNTERS.items():
            counter = CounterMetricFamily(f"diptych_encoder_{counted}", text, labels=["encoder"])
            for name, found in statistics.items():
                counter.add_metric([name], read(found))
            yield counter
        dropped = CounterMetricFamily(
            "diptych_encoder_dropped",
            "Requests that nobody waited for any more, dropped before they ran.",
            labels=["encoder", "reason"],
        )
        sizes = HistogramMetricFamily("diptych_encoder_batch_items", "Inputs of a batch.", labels=["encoder"])
        stages = HistogramMetricFamily(
            "diptych_encoder_stage_seconds",
            "Time of a request until it was prepared, and in the queue; of a batch in the graph.",
            labels=["encoder", "stage"],
        )
        for name, found in statistics.items():
            for reason, read in _DROPPED.items():
                dropped.add_metric([name, reason], read(found))
            _add(sizes, [name], found.batch_items)
            for stage, distribution in _STAGES.items():
                _add(stages, [name, stage], distribution(found))
        yield from (dropped, sizes, stages)
        yield from self._cache()

    def _cache(self) -> Iterator[Any]:
        cache = self._pool.cache
        yield GaugeMetricFamily("diptych_cache_bytes", "Memory of the cached vectors.", value=cache.bytes)
        asked = CounterMetricFamily("diptych_cache_items", "Inputs looked up in the cache.", labels=["result"])
        asked.add_metric(["hit"], cache.hit_count)
        asked.add_metric(["miss"], cache.miss_count)
        yield asked


def _add(family: HistogramMetricFamily, labels: list[str], distribution: Distribution) -> None:
    so_far, buckets = 0, []
    for bound, count in zip((*distribution.bounds, float("inf")), distribution.counts, strict=True):
        so_far += count
        buckets.append((str(bound) if bound < float("inf") else "+Inf", so_far))
    family.add_metric(labels, buckets, distribution.total)

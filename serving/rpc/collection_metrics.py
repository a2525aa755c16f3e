"""What the collections hold and how well they search, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from serving.backend import Backend
from serving.collections.types import CollectionInfo
from serving.errors import Unavailable

__all__ = ["CollectionMetrics"]

_GAUGES: Mapping[str, tuple[str, Callable[[CollectionInfo], float | None]]] = {
    "records": ("Records.", lambda info: info.record_count),
    "indexed_records": ("Records in the index.", lambda info: info.index.indexed_count),
    "tail_records": ("Records newer than the index, compared one by one.", lambda info: info.index.tail_count),
    "index_bytes_per_vector": ("Size of the index for each record in it.", lambda info: info.index.bytes_per_vector),
    "build_progress": (
        "How far the running index build is, from 0 to 1; absent where none runs.",
        lambda info: info.index.build_progress,
    ),
    "recall": (
        "Share of the true ten nearest that recent searches found, replayed exactly on a sample; absent where all are.",
        lambda info: None if info.index.recall is None else info.index.recall.recall,
    ),
    "recall_low": (
        "Lower end of the 95 % interval of the recall.",
        lambda info: None if info.index.recall is None else info.index.recall.low,
    ),
    "recall_high": (
        "Upper end of the 95 % interval of the recall.",
        lambda info: None if info.index.recall is None else info.index.recall.high,
    ),
    "recall_queries": (
        "Replayed queries that the recall rests on.",
        lambda info: None if info.index.recall is None else info.index.recall.query_count,
    ),
}


class CollectionMetrics(Collector):
    """Asks the collections whenever it is asked.

    Args:
        backend: Whose collections.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def collect(self) -> Iterator[Any]:
        """Yields every family of metrics, each with all collections."""
        try:
            infos = self._backend.catalogue.list()
        except Unavailable:
            # They are being opened, or closed: there is nothing to tell.
            infos = []
        for name, (text, read) in _GAUGES.items():
            family = GaugeMetricFamily(f"diptych_collection_{name}", text, labels=["collection"])
            for info in infos:
                value = read(info)
                if value is not None:
                    family.add_metric([info.spec.name], value)
            yield family

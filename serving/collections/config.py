"""How collections are kept: thresholds, threads and published limits; imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

__all__ = [
    "FILTER_SCAN_RATIO",
    "MAX_BATCH_RECORDS",
    "MAX_DIMENSION",
    "MAX_FIELDS",
    "MAX_FIELD_NAME_BYTES",
    "MAX_FILTER_CONDITIONS",
    "MAX_FILTER_DEPTH",
    "MAX_FILTER_VALUES",
    "MAX_ID_BYTES",
    "MAX_K",
    "MAX_METADATA_BYTES",
    "MAX_NORM",
    "MAX_PAGE_RECORDS",
    "MAX_QUERIES",
    "MAX_REQUEST_ID_BYTES",
    "CollectionsConfig",
]

MAX_ID_BYTES = 256
"""Longest record id, in UTF-8 bytes."""
MAX_DIMENSION = 65_536
"""Widest vector."""
MAX_K = 10_000
"""Most neighbours one query may ask for."""
MAX_QUERIES = 1_000
"""Most queries in one search."""
MAX_BATCH_RECORDS = 10_000
"""Most records in one write, one get or one delete."""
MAX_PAGE_RECORDS = 1_000
"""Most records in one page of a list."""
MAX_METADATA_BYTES = 65_536
"""Largest metadata of one record, as encoded."""
MAX_REQUEST_ID_BYTES = 128
"""Longest request id, in UTF-8 bytes."""
MAX_FIELDS = 64
"""Most declared fields of one collection."""
MAX_FIELD_NAME_BYTES = 128
"""Longest name of a declared field, in UTF-8 bytes."""
MAX_FILTER_DEPTH = 16
"""Deepest nesting of conditions in one filter."""
MAX_FILTER_CONDITIONS = 256
"""Most conditions in one filter, and, or and not among them."""
MAX_FILTER_VALUES = 10_000
"""Most values that the conditions of one filter compare with."""
FILTER_SCAN_RATIO = 20.0
"""Matching rows that are scanned in the time in which the graph finds one candidate."""
MAX_NORM = 1e18
"""Longest vector of a collection that is not cosine: squared distances must fit a float32."""


def _half_of_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


_RANGES: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    ("filter_scan_ratio", lambda value: value >= 0, "at least 0"),
    ("expiry_sweep_s", lambda value: value > 0, "above 0"),
    ("tail_fraction", lambda value: 0 < value <= 1, "in (0, 1]"),
    ("dead_fraction", lambda value: 0 < value < 1, "in (0, 1)"),
    ("recall_cpu_share", lambda value: 0 <= value < 1, "in [0, 1)"),
    ("scrub_bytes_per_s", lambda value: value >= 0, "at least 0"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CollectionsConfig:
    """What an operator may tune; the defaults suit one machine and up to a million records."""

    auto_index_records: int = 20_000
    """Records from which a collection that leaves its index to the server gets one; below, search is exact."""
    hnsw_min_records: int = 1_000
    """Records from which a collection gets the index it was asked to have; one over fewer gains nothing."""
    index_memory_bytes: int = _half_of_memory()
    """What one collection's index may take where the collection does not say; the mapped vectors, from which candidates
    are scored again, are not counted. Half of the machine's memory by default."""
    tail_fraction: float = 0.2
    """The base is rebuilt when the tail holds this share of the base's records, in (0, 1]..."""
    tail_min_records: int = 5_000
    """...but not before the tail holds this many..."""
    tail_max_records: int = 50_000
    """...and at the latest when it holds this many; beyond it writes are slowed, and from twice as many on refused."""
    dead_fraction: float = 0.2
    """The base is rebuilt when this share of its records is deleted or overwritten, in (0, 1)."""
    hnsw_m: int = 32
    """Links per node of the HNSW graph (FAISS `M`)."""
    ef_construction: int = 80
    """Candidates kept while the graph is built (FAISS `efConstruction`)."""
    ef_search: int = 64
    """Least candidates kept while the graph is searched (FAISS `efSearch`); more where k asks for it."""
    filter_scan_ratio: float = FILTER_SCAN_RATIO
    """Matching rows that are scanned in the time in which the graph finds one candidate: a filtered search scans its
    matches up to a share of about `sqrt(ratio * (k + 3 sqrt(k) + 6) / records)`; 0 always asks the graph first."""
    search_threads: int = min(4, os.cpu_count() or 1)
    """FAISS threads of one search."""
    build_threads: int = max(1, (os.cpu_count() or 1) // 2)
    """FAISS threads of an index build; one build runs at a time."""
    remembered_requests: int = 10_000
    """Latest request ids whose outcome a collection remembers."""
    expiry_sweep_s: float = 1.0
    """Seconds between two looks for records that have expired; nobody sees them in the meantime. Above 0."""
    scrub_bytes_per_s: int = 32 << 20
    """Rate at which what was only mapped at start is read and compared with its checksums; 0: it is not."""
    recall_cpu_share: float = 0.05
    """Most of one core that replaying sampled searches exactly may take, in [0, 1); 0: recall is not measured."""
    max_database_bytes: int | None = None
    """Bound on one collection's database file; writes beyond it are refused as if the disk were full."""

    def __post_init__(self) -> None:
        """Refuses settings that contradict each other.

        Raises:
            ValueError: A setting is outside its range.
        """
        for name in (
            "hnsw_m",
            "ef_construction",
            "ef_search",
            "search_threads",
            "build_threads",
            "index_memory_bytes",
            "remembered_requests",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must be at least 1")
        for name, holds, range_ in _RANGES:
            if not holds(getattr(self, name)):
                raise ValueError(f"{name} ({getattr(self, name)}) must be {range_}")
        if not 1 <= self.tail_min_records <= self.tail_max_records:
            raise ValueError(
                f"tail_min_records ({self.tail_min_records}) must be in [1, tail_max_records ({self.tail_max_records})]"
            )

"""The index of a collection, as asked for and as it stands."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Index", "IndexStatus", "Recall"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """An index that a collection shall have, to create or update it; 0 leaves a number to the server."""

    structure: str = "auto"
    """`auto`, `flat`, `hnsw`, `ivf` or `ivf_hnsw`."""
    quantiser: str = "auto"
    """`auto`, `float32`, `fp16`, `sq8`, `pq` or `rabitq`; needs a structure."""
    hnsw_m: int = 0
    """Links a node of a graph, in [4, 128]."""
    lists: int = 0
    """Lists of an inverted file, in [1, 65536]."""
    pq_segments: int = 0
    """Bytes a vector under `pq`; divide the dimension."""
    ef_search: int = 0
    """Least candidates kept while a graph is searched, in [1, 4096]."""
    probes: int = 0
    """Lists that a search reads, in [1, 65536]."""
    rerank_factor: float = 0.0
    """Candidates a neighbour that are scored again from float32, in [1, 100]."""
    memory_budget_bytes: int = 0
    """Memory the index may take."""
    target_recall: float = 0.0
    """Recall@10 to hold, in [0.5, 0.999]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recall:
    """How many of the true ten nearest recent searches found, with a 95 % interval."""

    recall: float
    low: float
    high: float
    query_count: int
    """Replayed queries it rests on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexStatus:
    """An index as it stands."""

    active: str
    """What answers now, such as `exact` or `IVF1024,SQ8`."""
    reason: str
    """Why this one."""
    bytes_per_vector: float
    build_progress: float | None
    """In [0, 1]; None where no build runs."""
    indexed_count: int
    tail_count: int
    """Newer records, compared one by one."""
    ef_search: int
    probes: int
    rerank_factor: float
    recall: Recall | None
    """None where nothing was measured yet, or search is exact."""

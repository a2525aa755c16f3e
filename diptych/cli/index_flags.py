"""The flags that say in detail which index a collection shall have."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from diptych.client.types import Index

__all__ = ["IndexFlags"]


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexFlags:
    """The index in detail, in place of --index; what is left at 0 or auto the collection chooses."""

    structure: Literal["auto", "flat", "hnsw", "ivf", "ivf_hnsw"] = "auto"
    """How it narrows down which vectors are compared."""
    quantiser: Literal["auto", "float32", "fp16", "sq8", "pq", "rabitq"] = "auto"
    """How it keeps vectors; needs --structure."""
    hnsw_m: int = 0
    """Links a node of a graph, in [4, 128]."""
    lists: int = 0
    """Lists of an inverted file, in [1, 65536]."""
    pq_segments: int = 0
    """Bytes a vector under pq; they divide the dimension."""
    ef_search: int = 0
    """Least candidates kept while a graph is searched, in [1, 4096]."""
    probes: int = 0
    """Lists that a search reads, in [1, 65536]."""
    rerank_factor: float = 0.0
    """Candidates a neighbour that are scored again from float32, in [1, 100]."""
    memory_budget_bytes: int = 0
    """Memory the index may take."""
    target_recall: float = 0.0
    """Recall@10 to hold by searching harder, in [0.5, 0.999]."""

    def chosen(self) -> Index | None:
        """Returns the index; None where no flag was given."""
        from diptych.client.types import Index

        given = Index(**{flag.name: getattr(self, flag.name) for flag in fields(self)})
        return None if given == Index() else given

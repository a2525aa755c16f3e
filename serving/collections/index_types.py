"""The words an index is asked for and reported in; no FAISS type appears here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = [
    "IndexKind",
    "IndexSpec",
    "IndexStatus",
    "IndexStructure",
    "Quantiser",
    "RecallEstimate",
    "structure_kind",
]


class IndexKind(StrEnum):
    """How neighbours are found, in a word."""

    AUTO = "auto"
    EXACT = "exact"
    HNSW = "hnsw"
    IVF = "ivf"


class IndexStructure(StrEnum):
    """How an index narrows down which vectors are compared."""

    AUTO = "auto"
    FLAT = "flat"
    """Every vector; with `float32` this is exact search."""
    HNSW = "hnsw"
    """A navigable small-world graph."""
    IVF = "ivf"
    """Lists around centroids, of which the nearest are read."""
    IVF_HNSW = "ivf_hnsw"
    """The same, the centroids found through a graph: for many lists."""


class Quantiser(StrEnum):
    """How an index keeps vectors; what it loses is made good by scoring its candidates again from float32."""

    AUTO = "auto"
    FLOAT32 = "float32"
    FP16 = "fp16"
    SQ8 = "sq8"
    """One byte a number, between each dimension's least and greatest value."""
    PQ = "pq"
    """Product quantisation: one byte for each of some segments of the vector."""
    RABITQ = "rabitq"
    """One bit a number, with two factors a vector."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexSpec:
    """What index a collection is asked to have; 0 leaves a number to the server."""

    structure: IndexStructure = IndexStructure.AUTO
    quantiser: Quantiser = Quantiser.AUTO
    hnsw_m: int = 0
    """Links a node of a graph, in [4, 128]."""
    lists: int = 0
    """Lists of an IVF, in [1, 65536]; fewer are made where they would hold less than 39 records each."""
    pq_segments: int = 0
    """Segments of PQ, which divide the dimension: bytes a vector."""
    ef_search: int = 0
    """Least candidates kept while a graph is searched, in [1, 4096]."""
    probes: int = 0
    """Lists read by a search, in [1, 65536]."""
    rerank_factor: float = 0.0
    """Candidates a neighbour that are scored again from float32, in [1, 100]."""
    memory_budget_bytes: int = 0
    """What the index may take, the mapped vectors for scoring again not counted."""
    target_recall: float = 0.0
    """Recall@10 that is held by searching harder where it is measured to be less, in [0.5, 0.999]."""

    @classmethod
    def of_kind(cls, kind: IndexKind) -> IndexSpec:
        """Returns what a kind stands for.

        Args:
            kind: In a word.

        Returns:
            The specification, its numbers left to the server.
        """
        quantiser = Quantiser.FLOAT32 if kind is IndexKind.EXACT else Quantiser.AUTO
        structures = {
            IndexKind.AUTO: IndexStructure.AUTO,
            IndexKind.EXACT: IndexStructure.FLAT,
            IndexKind.HNSW: IndexStructure.HNSW,
            IndexKind.IVF: IndexStructure.IVF,
        }
        return cls(structure=structures[kind], quantiser=quantiser)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> IndexSpec:
        """Reads the fields that `dataclasses.asdict` gave.

        Args:
            fields: By name; absent ones have their defaults.

        Returns:
            The specification.
        """
        known = dict(fields)
        structure = IndexStructure(known.pop("structure", IndexStructure.AUTO))
        quantiser = Quantiser(known.pop("quantiser", Quantiser.AUTO))
        return cls(structure=structure, quantiser=quantiser, **known)

    @property
    def kind(self) -> IndexKind:
        """In a word."""
        return structure_kind(self.structure, self.quantiser)

    @property
    def is_exact(self) -> bool:
        """Whether every vector is to be compared as it is."""
        return self.kind is IndexKind.EXACT


def structure_kind(structure: IndexStructure, quantiser: Quantiser) -> IndexKind:
    """Returns the kind of an index in a word.

    Args:
        structure: How it narrows down.
        quantiser: How it keeps vectors.

    Returns:
        `exact` only where nothing is lost; a scan of quantised vectors counts as an IVF of one list.
    """
    if structure is IndexStructure.AUTO:
        return IndexKind.AUTO
    if structure is IndexStructure.HNSW:
        return IndexKind.HNSW
    if structure is IndexStructure.FLAT and quantiser in (Quantiser.FLOAT32, Quantiser.AUTO):
        return IndexKind.EXACT
    return IndexKind.IVF


@dataclass(frozen=True, kw_only=True, slots=True)
class RecallEstimate:
    """How many of the true ten nearest recent searches found, as replayed exactly on a sample of them."""

    recall: float
    """In [0, 1]."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of the 95 % interval."""
    query_count: int
    """Replayed queries it rests on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexStatus:
    """The index as it stands."""

    active: str
    """What answers now, as `exact` or `HNSW32,fp16`."""
    kind: IndexKind
    """The same in a word."""
    reason: str
    """Why this one."""
    bytes_per_vector: float
    """Of the index; the mapped vectors for scoring again are not counted."""
    indexed_count: int
    """Records in the index."""
    tail_count: int
    """Newer records, compared one by one."""
    build_progress: float | None = None
    """Of the build that runs, in [0, 1]; `None` where none does."""
    ef_search: int = 0
    """In force; 0 where there is no graph."""
    probes: int = 0
    """In force; 0 where there are no lists."""
    rerank_factor: float = 0.0
    """In force; 0 where nothing is scored again."""
    recall: RecallEstimate | None = None
    """`None` where nothing was measured, or search is exact."""

"""What an index is in every number: chosen once, built so, and written into the base's manifest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from serving.collections.index_types import IndexStructure, Quantiser

__all__ = ["AnnPlan", "default_lists", "default_segments"]

_WORDS = {
    Quantiser.FLOAT32: "Flat",
    Quantiser.FP16: "fp16",
    Quantiser.SQ8: "SQ8",
    Quantiser.RABITQ: "RaBitQ",
}
_POINTS_A_LIST = 39
"""Fewer records than this make no good centroid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnPlan:
    """One index, resolved; numbers that do not belong to its structure or quantiser are 0."""

    structure: IndexStructure
    """`flat`, `hnsw`, `ivf` or `ivf_hnsw`."""
    quantiser: Quantiser
    """Any but `auto`."""
    hnsw_m: int = 0
    lists: int = 0
    pq_segments: int = 0

    @property
    def has_graph(self) -> bool:
        """Whether vectors, or centroids, are found through a graph."""
        return self.structure in (IndexStructure.HNSW, IndexStructure.IVF_HNSW)

    @property
    def has_lists(self) -> bool:
        """Whether vectors lie in lists."""
        return self.structure in (IndexStructure.IVF, IndexStructure.IVF_HNSW)

    @property
    def has_centroids(self) -> bool:
        """Whether it lies in lists: FAISS's flat PQ takes no selector, but an IVF of one list, the same scan, does."""
        return self.has_lists or (self.structure is IndexStructure.FLAT and self.quantiser is Quantiser.PQ)

    @property
    def name(self) -> str:
        """As people write it, such as `IVF1024,SQ8`."""
        quantiser = f"PQ{self.pq_segments}" if self.quantiser is Quantiser.PQ else _WORDS[self.quantiser]
        structure = {
            IndexStructure.FLAT: "Flat",
            IndexStructure.HNSW: f"HNSW{self.hnsw_m}",
            IndexStructure.IVF: f"IVF{self.lists}",
            IndexStructure.IVF_HNSW: f"IVF{self.lists}_HNSW{self.hnsw_m}",
        }[self.structure]
        return f"{structure},{quantiser}"

    def bytes_per_vector(self, dimension: int) -> float:
        """Returns what the index takes for each vector, about; centroids left out.

        Args:
            dimension: Width of the vectors.

        Returns:
            Bytes of its code, links and number.
        """
        code = {
            Quantiser.FLOAT32: 4 * dimension,
            Quantiser.FP16: 2 * dimension,
            Quantiser.SQ8: dimension,
            Quantiser.PQ: self.pq_segments,
            Quantiser.RABITQ: math.ceil(dimension / 8) + 8,
        }[self.quantiser]
        if self.structure is IndexStructure.HNSW:
            # Twice m links on the ground level, a level and an offset, and about one link further up.
            return code + 8 * self.hnsw_m + 16
        return code + (8 if self.has_centroids else 0)

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> AnnPlan:
        """Reads what `to_json` gave.

        Args:
            fields: JSON object.

        Returns:
            The plan.
        """
        structure, quantiser = IndexStructure(fields["structure"]), Quantiser(fields["quantiser"])
        return cls(**{**fields, "structure": structure, "quantiser": quantiser})


def default_lists(record_count: int, wanted: int = 0) -> int:
    """Returns how many lists so many records get.

    Args:
        record_count: At least 1.
        wanted: As asked for; 0: the power of two nearest to four times the square root.

    Returns:
        In [1, 65536], and so few that each list would hold 39 records.
    """
    lists = wanted or 2 ** round(math.log2(4 * math.sqrt(record_count)))
    return max(1, min(lists, 65_536, record_count // _POINTS_A_LIST))


def default_segments(dimension: int) -> int:
    """Returns into how many segments PQ cuts vectors: the largest divisor that leaves at least 8 numbers a segment.

    Args:
        dimension: Width of the vectors.

    Returns:
        A divisor of the dimension.
    """
    return max(segments for segments in range(1, max(1, dimension // 8) + 1) if dimension % segments == 0)

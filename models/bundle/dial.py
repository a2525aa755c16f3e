"""What retrieval costs at export: of an int8 graph, and of shorter vectors in smaller encodings."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from models.bundle.encodings import ELEMENT_BITS, Encoding

__all__ = ["DialSetting", "DimensionDial", "NeighbourAgreement"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NeighbourAgreement:
    """How far a quantised graph finds the neighbours that the fp32 graph finds, by exact search."""

    recall_at_10: float
    """Share of the fp32 graph's 10 nearest neighbours that are among this graph's, mean over queries; in [0, 1]."""
    same_nearest: float
    """Share of the queries whose nearest neighbour is the fp32 graph's (R@1); in [0, 1]."""
    n_query: int
    n_gallery: int
    """What each query was compared with; the query itself is left out."""
    source: str
    """What the inputs were taken from, in words."""

    def __post_init__(self) -> None:
        """Checks the ranges."""
        _require_share("recall_at_10", self.recall_at_10)
        _require_share("same_nearest", self.same_nearest)
        _require_counts(self.n_query, self.n_gallery)


@dataclass(frozen=True, kw_only=True, slots=True)
class DialSetting:
    """Vectors of one width in one encoding."""

    dimension: int
    """Components kept, the first ones; scaled back to unit length where it is not all of them."""
    encoding: Encoding
    """Of queries and gallery alike."""
    recall_at_10: float
    """Share of the 10 nearest neighbours by whole float32 vectors that are found, mean over queries; in [0, 1]."""

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if self.dimension < 1:
            raise ValueError(f"dimension ({self.dimension}) must be at least 1")
        _require_share("recall_at_10", self.recall_at_10)

    @property
    def size_bytes(self) -> int:
        """What a vector takes, an int8 vector's scale not counted."""
        return ceil(self.dimension * ELEMENT_BITS[self.encoding] / 8)


@dataclass(frozen=True, kw_only=True, slots=True)
class DimensionDial:
    """What each width and encoding keeps of the neighbours, measured at export with the fp32 graph by exact search."""

    settings: tuple[DialSetting, ...]
    """Widths falling, the whole first; in each, the encodings."""
    n_query: int
    n_gallery: int
    """What each query was compared with; the query itself is left out."""
    source: str
    """What the inputs were taken from, in words."""

    def __post_init__(self) -> None:
        """Checks that each setting is told once."""
        _require_counts(self.n_query, self.n_gallery)
        told = [(setting.dimension, setting.encoding) for setting in self.settings]
        if not told or len(set(told)) != len(told):
            raise ValueError("settings must tell each width and encoding once, and at least one")


def _require_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} ({value}) must lie in [0, 1]")


def _require_counts(n_query: int, n_gallery: int) -> None:
    if n_query < 1 or n_gallery < 1:
        raise ValueError(f"n_query ({n_query}) and n_gallery ({n_gallery}) must be at least 1")

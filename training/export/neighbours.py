"""How much of an exact search's result another search finds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["VectorSet", "find_members", "recall_of"]


@dataclass(frozen=True, slots=True)
class VectorSet:
    """The same inputs as queries and as gallery; row i of one is row i of the other."""

    queries: NDArray[np.float32]
    """`[n, d]`."""
    gallery: NDArray[np.float32]
    """`[n, d]`; the queries themselves where the encoder has one prompt."""


def find_members(vectors: VectorSet, *, metric: str, count: int) -> NDArray[np.float64]:
    """Tells by exact search which rows are among each query's nearest, the query's own row left out.

    Args:
        vectors: Queries and gallery.
        metric: `cosine`, `inner_product` or `l2`.
        count: Neighbours, in [1, n - 1].

    Returns:
        `[n, n]`: 1 for a neighbour, 0 for another row; rows that tie for the last places share them, so that a row sums
        to `count` whatever the order.

    Raises:
        ValueError: There are no `count` other rows.
    """
    if not 0 < count < len(vectors.gallery):
        raise ValueError(f"count ({count}) must lie in [1, {len(vectors.gallery)})")
    scores = _score(vectors, metric)
    np.fill_diagonal(scores, -np.inf)
    last = -np.partition(-scores, count - 1, axis=1)[:, count - 1, None]  # [n, 1]
    above, ties = scores > last, scores == last
    places = (count - above.sum(axis=1, keepdims=True)) / ties.sum(axis=1, keepdims=True)
    members: NDArray[np.float64] = above + ties * places
    return members


def recall_of(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    """Returns which share of the wanted neighbours is found, mean over queries; under ties what is to be expected.

    Args:
        found: `[n, n]`, from `find_members`.
        wanted: `[n, n]`, of as many neighbours.

    Returns:
        In [0, 1].
    """
    return float((np.minimum(found, wanted).sum(axis=1) / wanted.sum(axis=1)).mean().clip(0, 1))


def _score(vectors: VectorSet, metric: str) -> NDArray[np.float32]:
    scores: NDArray[np.float32] = vectors.queries @ vectors.gallery.T
    if metric == "cosine":
        # The query's length changes no order. Lengths divide scores, not rows: sums of signs then stay exact, and tie.
        scores /= np.maximum(np.linalg.norm(vectors.gallery, axis=1), np.finfo(np.float32).tiny)
    if metric == "l2":
        scores -= np.square(vectors.gallery).sum(axis=1) / 2
    return scores

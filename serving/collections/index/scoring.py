"""Scores: fast ones to find candidates with, and the one that is reported.

A matrix product rounds differently with the shape of the block a row lies in. The reported score must not: equal
vectors score equally wherever they are stored, and a record scores the same through a graph and through a scan. So
candidates are found with float32 products, within their rounding error, and scored again one by one in float64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.collections.index.rows import Rows
from serving.collections.types import Metric

__all__ = ["approximate_scores", "exact_scores", "rounding_error"]


def approximate_scores(queries: NDArray[np.float32], rows: Rows, metric: Metric) -> NDArray[np.float32]:
    """Returns scores within `rounding_error` of the exact ones.

    Args:
        queries: `[m, d]`.
        rows: `n` rows.
        metric: How closeness is scored.

    Returns:
        `[m, n]`, higher is closer.
    """
    products: NDArray[np.float32] = queries @ rows.vectors.T
    if metric is not Metric.L2:
        return products
    products *= 2
    products -= rows.sq_norms
    products -= np.einsum("md,md->m", queries, queries)[:, None]
    return products


def rounding_error(queries: NDArray[np.float32], rows: Rows, metric: Metric) -> NDArray[np.float64]:
    """Returns how far an approximate score may be from the exact one.

    Rounding errors of a sum of d products grow like the square root of d; four times that is taken.

    Args:
        queries: `[m, d]`.
        rows: At least one row.
        metric: How closeness is scored.

    Returns:
        `[m]`.
    """
    unit = 4 * np.sqrt(queries.shape[1]) * float(np.finfo(np.float32).eps)
    query_norms = np.sqrt(np.einsum("md,md->m", queries, queries, dtype=np.float64))
    longest = float(np.sqrt(np.max(rows.sq_norms)))
    error: NDArray[np.float64] = unit * ((query_norms + longest) ** 2 if metric is Metric.L2 else query_norms * longest)
    return error


def exact_scores(query: NDArray[np.float32], vectors: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    """Returns the scores that are reported.

    Args:
        query: `[d]`; unit where the metric is cosine, as are the vectors.
        vectors: `[c, d]`.
        metric: How closeness is scored.

    Returns:
        `[c]`: cosine in [-1, 1], inner product, or minus the squared distance.
    """
    wide = vectors.astype(np.float64)
    if metric is Metric.L2:
        wide -= query
        distances: NDArray[np.float64] = np.einsum("cd,cd->c", wide, wide)
        return (-distances).astype(np.float32)
    scores = (wide @ query.astype(np.float64)).astype(np.float32)
    return np.clip(scores, -1, 1) if metric is Metric.COSINE else scores

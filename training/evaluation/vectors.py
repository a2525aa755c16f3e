"""The vectors that metrics compare: dense from encoders, sparse from TF-IDF."""

from __future__ import annotations

from typing import TypeAlias, overload

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

__all__ = ["Vectors", "row_count", "score_matrix", "unit_rows"]

Vectors: TypeAlias = "NDArray[np.float32] | csr_array[np.float32]"
"""`[n, d]` float32."""


def row_count(vectors: Vectors) -> int:
    """Returns the number of vectors; `len` does not know sparse ones.

    Args:
        vectors: `[n, d]`.

    Returns:
        n.
    """
    return int(vectors.shape[0])


@overload
def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]: ...
@overload
def unit_rows(vectors: csr_array[np.float32]) -> csr_array[np.float32]: ...
def unit_rows(vectors: Vectors) -> Vectors:
    """Scales each row to length 1; a zero row stays zero.

    Args:
        vectors: `[n, d]`, finite.

    Returns:
        `[n, d]` float32, sparse where they were.

    Raises:
        ValueError: It is no matrix, or a value is NaN or infinite.
    """
    if vectors.ndim != 2:
        raise ValueError(f"vectors must be a matrix [n, d], got shape {vectors.shape}")
    if isinstance(vectors, csr_array):
        return _unit_sparse_rows(vectors)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise ValueError(f"row {int(np.argmin(finite))} of the vectors holds NaN or infinity; the encoder has diverged")
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)


def _unit_sparse_rows(vectors: csr_array[np.float32]) -> csr_array[np.float32]:
    row = np.repeat(np.arange(row_count(vectors)), np.diff(vectors.indptr))
    lengths = np.sqrt(np.bincount(row, weights=vectors.data.astype(np.float64) ** 2, minlength=row_count(vectors)))
    scaled = vectors.copy()
    scaled.data = (vectors.data / np.where(lengths > 0, lengths, 1.0)[row]).astype(np.float32)
    return scaled


def score_matrix(queries: Vectors, candidates: Vectors) -> NDArray[np.float32]:
    """Computes inner products so that equal vectors get equal scores.

    Products are summed in float64 and rounded to float32: the order of summation, which depends on a row's place in the
    matrix, then no longer breaks ties by accident.

    Args:
        queries: `[m, d]`.
        candidates: `[n, d]`, sparse exactly where the queries are.

    Returns:
        `[m, n]`, dense.
    """
    products = queries.astype(np.float64) @ candidates.astype(np.float64).T
    dense = products.toarray() if issparse(products) else np.asarray(products)
    return dense.astype(np.float32)

"""What a vector must be to enter a collection or to query one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.collections.config import MAX_NORM, MAX_QUERIES
from serving.collections.types import CollectionSpec, Metric
from serving.errors import DimensionMismatch, InputTooLarge, InvalidInput, ServingError, SpaceMismatch

__all__ = ["check_space", "prepare_queries", "prepare_vectors"]

_UNIT_TOLERANCE = 1e-6


def check_space(spec: CollectionSpec, space: str) -> None:
    """Refuses vectors of another embedding space, whatever their dimension.

    Args:
        spec: The collection.
        space: Space the caller's vectors belong to; empty: unstated.

    Raises:
        SpaceMismatch: The two differ.
    """
    if space == spec.space:
        return
    stated = f"the space {space!r}" if space else "no stated space"
    held = f"vectors of the space {spec.space!r}" if spec.space else "raw vectors of no stated space"
    raise SpaceMismatch(
        f"collection {spec.name!r} holds {held}, the call brings vectors of {stated}; "
        "vectors of two spaces cannot be compared: use the encoder the collection was made with",
        collection=spec.name,
        collection_space=spec.space,
        space=space,
    )


def prepare_vectors(
    spec: CollectionSpec, vectors: Sequence[NDArray[np.float32]]
) -> tuple[NDArray[np.float32], dict[int, ServingError]]:
    """Checks vectors and brings them to the form in which they are stored.

    Where the metric is cosine, a vector that is unit within 1e-6 stays as it is, bit for bit (what an encoder made is
    what is stored); others are divided by their norm.

    Args:
        spec: The collection: its dimension and metric.
        vectors: Each `[d]`.

    Returns:
        `[n, d]` float32, zero rows where a vector is refused; and per refused index the error.
    """
    prepared = np.zeros((len(vectors), spec.dimension), dtype=np.float32)
    errors: dict[int, ServingError] = {}
    for index, vector in enumerate(vectors):
        row = _as_row(vector)
        if row is None or row.shape != (spec.dimension,):
            errors[index] = _dimension_error(spec, np.shape(vector))
        else:
            prepared[index] = row
    norms = _norms(prepared)
    for index in np.flatnonzero(~_acceptable(norms, spec.metric)).tolist():
        if index not in errors:
            errors[index] = _norm_error(float(norms[index]))
            prepared[index] = 0
    if spec.metric is Metric.COSINE:
        _make_unit(prepared, norms)
    return prepared, errors


def prepare_queries(spec: CollectionSpec, queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """Checks query vectors by the rules of stored ones.

    Args:
        spec: The collection.
        queries: `[m, d]`.

    Returns:
        `[m, d]` float32, contiguous; unit rows where the metric is cosine.

    Raises:
        InvalidInput: Not a matrix, or a query that is zero (cosine), NaN or infinite; the message names its index.
        DimensionMismatch: Another width than the collection's.
        InputTooLarge: More than `MAX_QUERIES` queries.
    """
    if np.ndim(queries) != 2:
        raise InvalidInput(f"queries must be a matrix [m, d], not of shape {np.shape(queries)}")
    if len(queries) > MAX_QUERIES:
        raise InputTooLarge(f"{len(queries)} queries in one call, more than {MAX_QUERIES}; send several calls")
    if queries.shape[1] != spec.dimension:
        raise _dimension_error(spec, queries.shape[1:])
    prepared, errors = prepare_vectors(spec, list(queries))
    for index, error in errors.items():
        raise InvalidInput(f"query {index}: {error.message}", index=index)
    return prepared


def _as_row(vector: Any) -> NDArray[np.float32] | None:
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError):
        return None


def _dimension_error(spec: CollectionSpec, shape: tuple[int, ...]) -> DimensionMismatch:
    return DimensionMismatch(
        f"collection {spec.name!r} holds vectors of {spec.dimension} dimensions, this one has shape {list(shape)}",
        collection=spec.name,
        collection_dimension=spec.dimension,
        shape=list(shape),
    )


def _norms(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    # float64: a float32 sum of squares over- and underflows well inside the range of float32.
    with np.errstate(invalid="ignore", over="ignore"):
        norms: NDArray[np.float64] = np.sqrt(np.einsum("rd,rd->r", matrix, matrix, dtype=np.float64))
    return norms


def _acceptable(norms: NDArray[np.float64], metric: Metric) -> NDArray[np.bool_]:
    finite = np.isfinite(norms)
    accepted: NDArray[np.bool_] = finite & (norms > 0) if metric is Metric.COSINE else finite & (norms <= MAX_NORM)
    return accepted


def _norm_error(norm: float) -> InvalidInput:
    if not np.isfinite(norm):
        return InvalidInput("the vector holds NaN or infinity")
    if norm == 0:
        return InvalidInput("the vector is zero and has no direction; a cosine collection cannot hold it")
    return InvalidInput(f"the vector's norm {norm:.3g} is above {MAX_NORM:.0e}", norm=norm, limit=MAX_NORM)


def _make_unit(matrix: NDArray[np.float32], norms: NDArray[np.float64]) -> None:
    # A refused row is zero by now and must stay so.
    rescaled = np.flatnonzero((np.abs(norms - 1) > _UNIT_TOLERANCE) & np.isfinite(norms) & (norms > 0))
    matrix[rescaled] = matrix[rescaled] / norms[rescaled, None]

"""Finds neighbours by text, image, vector, stored record or examples: turns each into a vector, then asks the index."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.bundle.encoder import EncoderInfo
from serving.backend import Backend
from serving.collections.collection import Collection
from serving.collections.config import MAX_K, MAX_QUERIES
from serving.collections.types import Hits
from serving.errors import InputTooLarge, InvalidInput, ServingError
from serving.queries import Query, QueryVectors, SearchOptions, excluded_ids, resolve_queries
from serving.telemetry.call import note_call, stage

__all__ = ["SearchOutcome", "search"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchOutcome:
    """What was found."""

    hits: Sequence[Hits]
    """Per query its neighbours; none where it failed."""
    errors: Mapping[int, ServingError]
    """Failed queries and why."""
    encoder: EncoderInfo | None
    """Who embedded the queries; None where none had to be."""
    queue_s: float
    """Seconds that embedding waited."""
    compute_s: float
    """Seconds that embedding took."""
    search_s: float
    """Seconds in the index."""


async def search(backend: Backend, name: str, queries: Sequence[Query], options: SearchOptions) -> SearchOutcome:
    """Finds the neighbours of each query.

    Args:
        backend: Encoders and collections.
        name: The collection's name.
        queries: What to find neighbours of; at least one.
        options: How.

    Returns:
        Neighbours and errors by query.

    Raises:
        InvalidInput: There is no query.
        InputTooLarge: There are too many.
    """
    note_call(items=len(queries))
    if not queries:
        raise InvalidInput("a search needs at least one query")
    if len(queries) > MAX_QUERIES:
        raise InputTooLarge(
            f"{len(queries)} queries in one call, more than {MAX_QUERIES}; send several calls",
            count=len(queries),
            limit=MAX_QUERIES,
        )
    collection = backend.collection(name)
    resolved = await resolve_queries(backend, collection, queries, options)
    start_s = time.perf_counter()
    hits = await _find(backend, collection, queries, resolved, options)
    return SearchOutcome(
        hits=hits,
        errors=resolved.errors,
        encoder=resolved.encoder,
        queue_s=resolved.queue_s,
        compute_s=resolved.compute_s,
        search_s=time.perf_counter() - start_s,
    )


async def _find(
    backend: Backend, collection: Collection, queries: Sequence[Query], resolved: QueryVectors, options: SearchOptions
) -> list[Hits]:
    answered = [index for index in range(len(queries)) if index not in resolved.errors]
    excluded = [excluded_ids(query) for query in queries]
    # Records asked by are left out of their own result, so that many more must be found.
    surplus = max((len(excluded[index]) for index in answered), default=0)
    hits = [_no_hits(options.with_records)] * len(queries)
    if not answered:
        return hits
    spec = collection.definition.spec
    with stage("search", collection=spec.name, items=len(answered), k=options.k):
        found = await backend.read(
            collection.search,
            resolved.vectors[answered],
            space=spec.space,
            k=min(options.k + surplus, MAX_K),
            exact=options.exact,
            score_threshold=options.score_threshold,
            where=options.where,
            with_records=options.with_records,
            min_sequence=options.min_sequence,
        )
    for index, result in zip(answered, found, strict=True):
        hits[index] = _without(result, excluded[index], options.k) if surplus else result
    return hits


def _no_hits(with_records: bool) -> Hits:
    none: NDArray[np.float32] = np.zeros(0, np.float32)
    return Hits(ids=[], scores=none, versions=np.zeros(0, np.int64), records=[] if with_records else None)


def _without(hits: Hits, excluded: frozenset[str], k: int) -> Hits:
    kept = [row for row, identifier in enumerate(hits.ids) if identifier not in excluded][:k]
    return replace(
        hits,
        ids=[hits.ids[row] for row in kept],
        scores=hits.scores[kept],
        versions=hits.versions[kept],
        records=None if hits.records is None else [hits.records[row] for row in kept],
    )

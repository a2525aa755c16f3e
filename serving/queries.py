"""What a search may be asked by, and the vector that each question becomes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.bundle.encoder import EncoderInfo, Purpose
from serving.backend import Backend
from serving.collections.collection import Collection
from serving.collections.config import MAX_K
from serving.collections.filters.conditions import Condition
from serving.collections.types import CollectionSpec, Metric
from serving.collections.vectors import check_space, prepare_vectors
from serving.embedding import EmbedOptions, embed
from serving.errors import InvalidInput, ModalityNotServed, RecordNotFound, ServingError

__all__ = [
    "DEFAULT_K",
    "MAX_EXAMPLES",
    "Examples",
    "Part",
    "Query",
    "QueryVectors",
    "SearchOptions",
    "Stored",
    "excluded_ids",
    "resolve_queries",
]

DEFAULT_K = 10

MAX_EXAMPLES = 64
"""Most positive, and most negative, examples of one query."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A record of the collection, by id."""

    id: str


Part = str | bytes | NDArray[np.float32] | Stored
"""A text, an encoded image, a vector `[d]`, or a stored record."""


@dataclass(frozen=True, slots=True)
class Examples:
    """The mean of the positives' vectors minus the mean of the negatives'."""

    positives: Sequence[Part]
    negatives: Sequence[Part] = ()

    def __post_init__(self) -> None:
        if not self.positives:
            raise InvalidInput("a search by examples needs at least one positive example")
        if max(len(self.positives), len(self.negatives)) > MAX_EXAMPLES:
            raise InvalidInput(f"a search takes at most {MAX_EXAMPLES} positive and {MAX_EXAMPLES} negative examples")


Query = Part | Examples


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchOptions:
    """How to search."""

    k: int = DEFAULT_K
    """Most neighbours of each query, in [1, 10000]."""
    score_threshold: float | None = None
    """Least score of a neighbour."""
    exact: bool = False
    """Whether every vector is compared."""
    where: Condition | None = None
    """What must hold of a neighbour's metadata."""
    with_records: bool = False
    """Whether the records come along."""
    min_sequence: int = 0
    """Least sequence of the state that answers."""
    space: str = ""
    """Embedding space of the vectors brought."""
    deadline_s: float | None = None
    """Monotonic time after which nobody waits."""

    def __post_init__(self) -> None:
        if not 1 <= self.k <= MAX_K:
            raise InvalidInput(f"k ({self.k}) must be in [1, {MAX_K}]", k=self.k, limit=MAX_K)


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryVectors:
    """The vector of each query."""

    vectors: NDArray[np.float32]
    """`[m, d]`, as the collection stores its own; rows of failed queries are zero."""
    errors: Mapping[int, ServingError]
    """Failed queries and why."""
    encoder: EncoderInfo | None
    """Who embedded; None where none had to."""
    queue_s: float
    compute_s: float


def _parts(query: Query) -> Iterator[tuple[Part, Purpose]]:
    """Yields what a query is made of; an example is a thing to resemble, so it is embedded as a document."""
    if isinstance(query, Examples):
        for part in (*query.positives, *query.negatives):
            yield part, Purpose.DOCUMENT
    else:
        yield query, Purpose.QUERY


def excluded_ids(query: Query) -> frozenset[str]:
    """Returns the stored records that a query is asked by: they are not their own neighbours.

    Args:
        query: The query.

    Returns:
        Their ids.
    """
    return frozenset(part.id for part, _ in _parts(query) if isinstance(part, Stored))


async def resolve_queries(
    backend: Backend, collection: Collection, queries: Sequence[Query], options: SearchOptions
) -> QueryVectors:
    """Finds the vector of each query.

    Args:
        backend: The encoders, and the threads.
        collection: Where is searched.
        queries: The queries.
        options: The space of the vectors brought, the state to read from, the deadline.

    Returns:
        Vectors and, per query that has none, an error.
    """
    spec = collection.definition.spec
    parts = [part for query in queries for part in _parts(query)]
    if any(isinstance(part, np.ndarray) for part, _ in parts):
        check_space(spec, options.space)
    ids = {part.id for part, _ in parts if isinstance(part, Stored)}
    embedded, stored = await asyncio.gather(
        _embed(backend, spec, parts, options), _read_stored(backend, collection, ids, options)
    )
    known = _Known(embedded.vectors, stored, spec)
    vectors, errors = known.resolve(queries)
    return QueryVectors(
        vectors=vectors,
        errors=errors,
        encoder=embedded.encoder,
        queue_s=embedded.queue_s,
        compute_s=embedded.compute_s,
    )


@dataclass(slots=True)
class _Embedded:
    """Vectors, or errors, of texts and images by purpose; and where the time went."""

    vectors: dict[tuple[str | bytes, Purpose], NDArray[np.float32] | ServingError]
    encoder: EncoderInfo | None = None
    queue_s: float = 0.0
    compute_s: float = 0.0


async def _embed(
    backend: Backend, spec: CollectionSpec, parts: Iterable[tuple[Part, Purpose]], options: SearchOptions
) -> _Embedded:
    embedded = _Embedded({})
    wanted = {(part, purpose): None for part, purpose in parts if isinstance(part, (str, bytes))}
    if wanted and not spec.encoder:
        raise ModalityNotServed(
            f"collection '{spec.name}' has no encoder; search by vector or by stored record", collection=spec.name
        )
    for purpose in Purpose:
        items = [part for part, meant in wanted if meant is purpose]
        if not items:
            continue
        how = EmbedOptions(purpose=purpose, deadline_s=options.deadline_s, space=spec.space)
        outcome = await embed(backend.pool, spec.encoder, items, how)
        # No version of the space may be left of those the collection was made with.
        check_space(spec, outcome.info.space)
        for row, item in enumerate(items):
            embedded.vectors[item, purpose] = outcome.errors.get(row) or outcome.vectors[row]
        embedded.encoder = outcome.info
        embedded.queue_s = max(embedded.queue_s, outcome.queue_s)
        embedded.compute_s += outcome.compute_s
    return embedded


async def _read_stored(
    backend: Backend, collection: Collection, ids: Iterable[str], options: SearchOptions
) -> dict[str, NDArray[np.float32]]:
    wanted = sorted(ids)
    if not wanted:
        return {}
    records = await backend.read(collection.get, wanted, min_sequence=options.min_sequence)
    return {record.id: record.vector for record in records if record is not None}


@dataclass(frozen=True, slots=True)
class _Known:
    """The vectors of all parts, once they are there."""

    embedded: Mapping[tuple[str | bytes, Purpose], NDArray[np.float32] | ServingError]
    stored: Mapping[str, NDArray[np.float32]]
    spec: CollectionSpec

    def resolve(self, queries: Sequence[Query]) -> tuple[NDArray[np.float32], dict[int, ServingError]]:
        errors: dict[int, ServingError] = {}
        rows: list[NDArray[np.float32]] = []
        for index, query in enumerate(queries):
            try:
                rows.append(self._combine(query) if isinstance(query, Examples) else self._part(query, Purpose.QUERY))
            except ServingError as error:
                errors[index] = error
                rows.append(np.zeros(0, np.float32))
        vectors, refused = prepare_vectors(self.spec, rows)
        return vectors, {**refused, **errors}

    def _combine(self, examples: Examples) -> NDArray[np.float32]:
        combined = self._mean(examples.positives)
        if examples.negatives:
            combined = combined - self._mean(examples.negatives)
        if self.spec.metric is Metric.COSINE and not np.any(combined):
            raise InvalidInput("the positive and the negative examples cancel out; give others")
        return combined

    def _mean(self, parts: Sequence[Part]) -> NDArray[np.float32]:
        # Under cosine each example counts the same, however long the vector that was sent.
        vectors, errors = prepare_vectors(self.spec, [self._part(part, Purpose.DOCUMENT) for part in parts])
        for error in errors.values():
            raise error
        mean: NDArray[np.float32] = vectors.mean(axis=0)
        return mean

    def _part(self, part: Part, purpose: Purpose) -> NDArray[np.float32]:
        if isinstance(part, np.ndarray):
            return part
        if isinstance(part, Stored):
            if part.id not in self.stored:
                raise RecordNotFound(
                    f"collection '{self.spec.name}' has no record '{part.id}'", collection=self.spec.name, id=part.id
                )
            return self.stored[part.id]
        found = self.embedded[part, purpose]
        if isinstance(found, ServingError):
            raise found
        return found

"""SearchService: finds nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from grpc import aio

from diptych.v1 import collection_pb2, search_service_pb2_grpc
from diptych.v1 import search_service_pb2 as pb
from serving.backend import Backend
from serving.collections.types import Hits, Record
from serving.errors import InvalidInput, Unsupported
from serving.queries import DEFAULT_K, Query, SearchOptions
from serving.rpc.filters import condition_from_wire
from serving.rpc.inputs import queries_from_wire, query_from_wire
from serving.rpc.limits import bounded
from serving.rpc.metadata import metadata_to_wire
from serving.rpc.records import source_to_wire
from serving.rpc.stamps import deadline_of, duration, stamp_of, timing_of
from serving.rpc.status import item_errors_to_wire
from serving.rpc.tensor import encode_vectors
from serving.search import SearchOutcome, search

__all__ = ["SearchServicer"]

Context = aio.ServicerContext[Any, Any]


class SearchServicer(search_service_pb2_grpc.SearchServiceServicer):
    """Answers over the backend's collections and encoders.

    Args:
        backend: What it stands on.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def Search(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:
        """Finds the neighbours of one query; its error is the call's."""
        if request.page_size or request.page_token:
            raise Unsupported("pages are not offered by this server yet; ask for a larger k", feature="search_pages")
        if not request.HasField("query"):
            raise InvalidInput("query must be set")
        options = _options(request.parameters, request.space, deadline_of(context))
        outcome = await self._search(request.collection, [query_from_wire(request.query)], options)
        if outcome.errors:
            raise outcome.errors[0]
        return bounded(
            pb.SearchResponse(
                neighbours=neighbours_to_wire(outcome.hits[0], request.parameters.parts),
                encoder=stamp_of(outcome.encoder),
                timing=timing_of(outcome.queue_s, outcome.compute_s) if outcome.encoder else None,
                search_duration=duration(outcome.search_s),
            )
        )

    async def BatchSearch(self, request: pb.BatchSearchRequest, context: Context) -> pb.BatchSearchResponse:
        """Finds the neighbours of several queries; each has its own error."""
        options = _options(request.parameters, request.space, deadline_of(context))
        outcome = await self._search(request.collection, queries_from_wire(request), options)
        return bounded(
            pb.BatchSearchResponse(
                neighbours=[neighbours_to_wire(hits, request.parameters.parts) for hits in outcome.hits],
                item_errors=item_errors_to_wire(outcome.errors),
                encoder=stamp_of(outcome.encoder),
                timing=timing_of(outcome.queue_s, outcome.compute_s) if outcome.encoder else None,
                search_duration=duration(outcome.search_s),
            )
        )

    async def _search(self, collection: str, queries: Sequence[Query], options: SearchOptions) -> SearchOutcome:
        return await search(self._backend, collection, queries, options)


def _options(parameters: pb.SearchParameters, space: str, deadline_s: float | None) -> SearchOptions:
    parts = parameters.parts
    return SearchOptions(
        k=parameters.k or DEFAULT_K,
        score_threshold=parameters.score_threshold if parameters.HasField("score_threshold") else None,
        exact=parameters.exact,
        where=condition_from_wire(parameters.filter) if parameters.HasField("filter") else None,
        with_records=parts.vector or parts.metadata or parts.source,
        min_sequence=parameters.min_sequence,
        space=space,
        deadline_s=deadline_s,
    )


def neighbours_to_wire(hits: Hits, parts: collection_pb2.RecordParts) -> pb.Neighbours:
    """Writes the neighbours of one query as parallel arrays.

    Args:
        hits: The neighbours.
        parts: Which parts of their records come along.

    Returns:
        The message.
    """
    neighbours = pb.Neighbours(ids=hits.ids, scores=hits.scores.tolist(), versions=hits.versions.tolist())
    records: Sequence[Record] = hits.records or ()
    if parts.vector and records:
        neighbours.vectors.CopyFrom(encode_vectors(np.stack([record.vector for record in records])))
    if parts.metadata:
        neighbours.metadata.extend(metadata_to_wire(record.metadata) for record in records)
    if parts.source:
        neighbours.sources.extend(source_to_wire(record) for record in records)
    return neighbours

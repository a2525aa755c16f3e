"""Search by one query, or by many."""

from __future__ import annotations

from diptych.client.arguments import BatchSearchArguments, SearchArguments
from diptych.client.calls import Call, Operation
from diptych.client.chunks import chunk_slices
from diptych.client.errors import ClientError
from diptych.client.replies import errors_of, neighbours_of, raise_first
from diptych.client.requests import inputs_of, one_of, query_message, search_parameters, vectors_and_space
from diptych.client.tensors import tensor_of_vector
from diptych.client.types import Neighbours
from diptych.v1 import search_service_pb2 as pb

__all__ = ["batch_search", "search"]

NEIGHBOURS_PER_CALL = 100_000
"""Neighbours that come back in one message, ids and scores only; fewer queries go into a call where k is large."""


def search(collection: str, arguments: SearchArguments) -> Operation[Neighbours]:
    """Finds the neighbours of one query.

    Args:
        collection: The collection's name.
        arguments: What to find neighbours of, and how.

    Returns:
        The operation; its result is the neighbours.
    """
    parameters = search_parameters(arguments)
    request = pb.SearchRequest(
        collection=collection,
        query=query_message(arguments),
        parameters=parameters,
        space=arguments.get("space", ""),
    )
    reply = yield Call("SearchService/Search", request, pb.SearchResponse)
    return neighbours_of(reply.neighbours, parameters.parts)


def batch_search(collection: str, arguments: BatchSearchArguments) -> Operation[list[Neighbours]]:
    """Finds the neighbours of several queries, in as many calls as they need.

    Args:
        collection: The collection's name.
        arguments: What to find neighbours of, and how.

    Returns:
        The operation; its result has one entry per query.
    """
    parameters = search_parameters(arguments)
    queries, space = _queries(arguments)
    max_items = max(min(NEIGHBOURS_PER_CALL // parameters.k, 1_000), 1)
    found: list[Neighbours] = []
    errors: dict[int, ClientError] = {}
    for run in chunk_slices([query.ByteSize() for query in queries], max_items=max_items):
        request = pb.BatchSearchRequest(collection=collection, queries=queries[run], parameters=parameters, space=space)
        reply = yield Call("SearchService/BatchSearch", request, pb.BatchSearchResponse)
        errors |= errors_of(reply.item_errors, offset=run.start)
        found.extend(
            neighbours_of(message, parameters.parts, errors.get(run.start + row))
            for row, message in enumerate(reply.neighbours)
        )
    raise_first(errors, allow_partial=arguments.get("allow_partial", False))
    return found


def _queries(arguments: BatchSearchArguments) -> tuple[list[pb.Query], str]:
    kind = one_of(arguments, ["texts", "images", "vectors", "records"])
    space = arguments.get("space", "")
    if kind == "records":
        return [pb.Query(record_id=identifier) for identifier in arguments["records"]], space
    if kind == "vectors":
        vectors, space = vectors_and_space(arguments["vectors"], space)
        return [pb.Query(vector=tensor_of_vector(vector)) for vector in vectors], space
    inputs = inputs_of(arguments.get("texts"), arguments.get("images"))
    return [pb.Query(input=item) for item in inputs], space

"""Records: upsert, get, list, count, update, delete."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from diptych.client.arguments import PartArguments, UpsertArguments
from diptych.client.calls import Call, Operation
from diptych.client.chunks import MAX_CHUNK_ITEMS, chunk_slices
from diptych.client.errors import ClientError
from diptych.client.filters import Filter
from diptych.client.metadata import metadata_of_values
from diptych.client.replies import record_of, write_result_of
from diptych.client.requests import filter_message, inputs_of, one_of, parts_message, record_writes, vectors_and_space
from diptych.client.tensors import tensor_of_vectors
from diptych.client.types import DeleteResult, MetadataValue, Record, WriteResult
from diptych.v1 import collection_service_pb2 as pb

__all__ = [
    "count_records",
    "delete_records",
    "get_records",
    "list_page",
    "update_metadata",
    "upsert",
    "upsert_requests",
]


def upsert_requests(
    collection: str, ids: Sequence[str], arguments: UpsertArguments
) -> Iterator[pb.UpsertRecordsRequest]:
    """Builds the calls that a batch of writes needs, each with a request id so that it may be repeated.

    Args:
        collection: The collection's name.
        ids: One per record.
        arguments: What to write.

    Yields:
        Requests that fit a message, in order.

    Raises:
        ValueError: The lengths differ, or not exactly one content was given.
    """
    if isinstance(ids, str):
        raise ValueError("ids must be a list of strings, not one string")
    kind = one_of(arguments, ["vectors", "texts", "images"])
    vectors: NDArray[Any] | None = None
    inputs, space = None, arguments.get("space", "")
    if kind == "vectors":
        vectors, space = vectors_and_space(arguments["vectors"], space)
        if vectors.ndim != 2 or len(vectors) != len(ids):
            raise ValueError(f"vectors of shape {list(vectors.shape)} must be [{len(ids)}, d], one row per id")
    else:
        inputs = inputs_of(arguments.get("texts"), arguments.get("images"))
    records = record_writes(
        ids, inputs, arguments.get("metadata"), arguments.get("if_versions"), arguments.get("expire_times")
    )
    row_bytes = 4 * vectors.shape[1] if vectors is not None else 0
    request_id = arguments.get("request_id", "")
    for number, run in enumerate(chunk_slices([record.ByteSize() + row_bytes for record in records])):
        yield pb.UpsertRecordsRequest(
            collection=collection,
            records=records[run],
            vectors=tensor_of_vectors(vectors[run]) if vectors is not None else None,
            space=space,
            allow_partial=arguments.get("allow_partial", False),
            request_id=f"{request_id}-{number}" if request_id else uuid.uuid4().hex,
        )


def upsert(collection: str, ids: Sequence[str], arguments: UpsertArguments) -> Operation[WriteResult]:
    """Writes records, in as many calls as their bytes need; each call is atomic.

    Args:
        collection: The collection's name.
        ids: One per record.
        arguments: What to write.

    Returns:
        The operation; its result is the whole batch.

    Raises:
        ValueError: There is nothing to write.
    """
    replies: list[pb.UpsertRecordsResponse] = []
    done = 0
    for request in upsert_requests(collection, ids, arguments):
        try:
            reply = yield Call("CollectionService/UpsertRecords", request, pb.UpsertRecordsResponse)
        except ClientError as error:
            if done:
                error.message = f"the first {done} records are written; of those from index {done} on: {error.message}"
                error.args = (error.message,)
            raise
        replies.append(reply)
        done += len(request.records)
    if not replies:
        raise ValueError("there is nothing to write: give at least one id")
    return write_result_of(replies)


def update_metadata(
    collection: str, identifier: str, metadata: Mapping[str, MetadataValue], *, if_version: int | None
) -> Operation[int]:
    """Replaces a record's metadata; the result is its new version."""
    request = pb.UpdateRecordMetadataRequest(
        collection=collection,
        id=identifier,
        metadata=metadata_of_values(metadata),
        if_version=if_version,
        request_id=uuid.uuid4().hex,
    )
    reply = yield Call("CollectionService/UpdateRecordMetadata", request, pb.UpdateRecordMetadataResponse)
    return int(reply.version)


def get_records(
    collection: str, ids: Sequence[str], parts: PartArguments, *, min_sequence: int
) -> Operation[list[Record | None]]:
    """Gets records in the order of their ids; None where there is none."""
    found: dict[str, Record] = {}
    for start in range(0, len(ids), MAX_CHUNK_ITEMS):
        request = pb.GetRecordsRequest(
            collection=collection,
            ids=ids[start : start + MAX_CHUNK_ITEMS],
            parts=parts_message(parts, metadata=True),
            min_sequence=min_sequence,
        )
        reply = yield Call("CollectionService/GetRecords", request, pb.GetRecordsResponse)
        found.update({message.id: record_of(message) for message in reply.records})
    return [found.get(identifier) for identifier in ids]


def list_page(
    collection: str, token: str, page_size: int, parts: PartArguments, *, filter: Filter | str | None
) -> Operation[tuple[list[Record], str]]:
    """Lists one page of records; the result ends with the next page's token, empty on the last."""
    request = pb.ListRecordsRequest(
        collection=collection,
        page_size=page_size,
        page_token=token,
        parts=parts_message(parts, metadata=True),
        filter=filter_message(filter),
    )
    reply = yield Call("CollectionService/ListRecords", request, pb.ListRecordsResponse)
    return [record_of(message) for message in reply.records], str(reply.next_page_token)


def count_records(collection: str, *, filter: Filter | str | None) -> Operation[int]:
    """Counts records."""
    request = pb.CountRecordsRequest(collection=collection, filter=filter_message(filter))
    reply = yield Call("CollectionService/CountRecords", request, pb.CountRecordsResponse)
    return int(reply.record_count)


def delete_records(
    collection: str, ids: Sequence[str] | None, *, filter: Filter | str | None
) -> Operation[DeleteResult]:
    """Deletes records by id, or all for which a filter holds; ids that are not there are no error.

    Args:
        collection: The collection's name.
        ids: At least one; None where there is a filter.
        filter: None where there are ids.

    Returns:
        The operation; its result says how many were there.

    Raises:
        ValueError: Both or neither were given, there is no id, or a string instead of a list.
    """
    if one_of({"ids": ids, "filter": filter}, ["ids", "filter"]) == "filter" or ids is None:
        request = pb.DeleteRecordsRequest(
            collection=collection, filter=filter_message(filter), request_id=uuid.uuid4().hex
        )
        reply = yield Call("CollectionService/DeleteRecords", request, pb.DeleteRecordsResponse)
        return DeleteResult(sequence=reply.sequence, deleted_count=reply.deleted_count)
    if isinstance(ids, str) or not ids:
        raise ValueError("ids must be a list of at least one string")
    sequence, deleted_count = 0, 0
    for start in range(0, len(ids), MAX_CHUNK_ITEMS):
        run = ids[start : start + MAX_CHUNK_ITEMS]
        request = pb.DeleteRecordsRequest(collection=collection, ids=run, request_id=uuid.uuid4().hex)
        reply = yield Call("CollectionService/DeleteRecords", request, pb.DeleteRecordsResponse)
        sequence, deleted_count = reply.sequence, deleted_count + reply.deleted_count
    return DeleteResult(sequence=sequence, deleted_count=deleted_count)

"""Inputs, records and queries as they come over the wire."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diptych.v1 import collection_service_pb2, embedding_pb2, search_service_pb2, tensor_pb2
from serving.errors import InvalidInput, ServingError
from serving.ingest import RecordDraft
from serving.queries import Examples, Part, Query, Stored
from serving.rpc.limits import check_batch_size
from serving.rpc.metadata import metadata_from_wire, timestamp_from_wire
from serving.rpc.tensor import decode_vector, decode_vectors

__all__ = ["drafts_from_wire", "input_from_wire", "queries_from_wire", "query_from_wire"]


def input_from_wire(message: embedding_pb2.Input, *, field: str) -> str | bytes:
    """Reads a text or an encoded image.

    Args:
        message: As sent.
        field: Where it stood in the request.

    Returns:
        `str` for a text, `bytes` for an image.

    Raises:
        InvalidInput: It is neither.
    """
    kind = message.WhichOneof("kind")
    if kind is None:
        raise InvalidInput(f"{field} holds neither text nor image", field=field)
    return message.text if kind == "text" else message.image


def drafts_from_wire(request: collection_service_pb2.UpsertRecordsRequest) -> list[RecordDraft | ServingError]:
    """Reads the records of a write; what cannot be read is an error in its place.

    Args:
        request: The batch.

    Returns:
        One entry per record.

    Raises:
        InvalidInput: There are none, or the packed vectors do not match the records without content.
    """
    check_batch_size(len(request.records), field="records")
    if not request.records:
        raise InvalidInput("a write needs at least one record")
    without_content = sum(record.WhichOneof("content") is None for record in request.records)
    packed = _packed(request, without_content)
    rows = iter(packed)
    drafts: list[RecordDraft | ServingError] = []
    for index, record in enumerate(request.records):
        row = next(rows, None) if record.WhichOneof("content") is None else None
        try:
            drafts.append(_draft(record, row, field=f"records[{index}]"))
        except InvalidInput as error:
            drafts.append(error)
    return drafts


def _packed(request: collection_service_pb2.UpsertRecordsRequest, without_content: int) -> NDArray[np.float32]:
    if not request.HasField("vectors"):
        return np.zeros((0, 0), np.float32)
    packed = decode_vectors(request.vectors, field="vectors")
    if len(packed) != without_content:
        raise InvalidInput(
            f"vectors holds {len(packed)} rows for {without_content} records without content; they must be as many",
            row_count=len(packed),
            record_count=without_content,
        )
    return packed


def _draft(record: collection_service_pb2.RecordWrite, row: NDArray[np.float32] | None, *, field: str) -> RecordDraft:
    content: str | bytes | NDArray[np.float32]
    kind = record.WhichOneof("content")
    if kind == "vector":
        content = decode_vector(record.vector, field=f"{field}.vector")
    elif kind == "input":
        content = input_from_wire(record.input, field=f"{field}.input")
    elif row is not None:
        content = row
    else:
        raise InvalidInput(f"{field} holds neither vector nor input", field=field)
    return RecordDraft(
        id=record.id,
        content=content,
        metadata=metadata_from_wire(record.metadata, field=f"{field}.metadata"),
        if_version=record.if_version if record.HasField("if_version") else None,
        expire_time=timestamp_from_wire(record.expire_time, f"{field}.expire_time")
        if record.HasField("expire_time")
        else None,
    )


def query_from_wire(message: search_service_pb2.Query, *, field: str = "query") -> Query:
    """Reads what to find neighbours of.

    Args:
        message: As sent.
        field: Where it stood in the request.

    Returns:
        The query.
    """
    if message.WhichOneof("kind") == "examples":
        examples = message.examples
        return Examples(
            [_part(example, f"{field}.positives[{index}]") for index, example in enumerate(examples.positives)],
            [_part(example, f"{field}.negatives[{index}]") for index, example in enumerate(examples.negatives)],
        )
    return _part(message, field)


def queries_from_wire(request: search_service_pb2.BatchSearchRequest) -> list[Query]:
    """Reads the queries of a batch.

    Args:
        request: The batch.

    Returns:
        The queries.

    Raises:
        InvalidInput: Both or neither of `queries` and `vectors` are set.
    """
    if request.HasField("vectors") == bool(request.queries):
        raise InvalidInput("either queries or vectors must be set, and not both")
    if request.HasField("vectors"):
        return list(decode_vectors(request.vectors, field="vectors"))
    return [query_from_wire(query, field=f"queries[{index}]") for index, query in enumerate(request.queries)]


def _part(message: search_service_pb2.Query | search_service_pb2.Example, field: str) -> Part:
    kind = message.WhichOneof("kind")
    if kind == "input":
        return input_from_wire(message.input, field=f"{field}.input")
    if kind == "vector":
        return _vector(message.vector, field)
    if kind == "record_id":
        return Stored(message.record_id)
    raise InvalidInput(f"{field} is empty", field=field)


def _vector(tensor: tensor_pb2.Tensor, field: str) -> NDArray[np.float32]:
    return decode_vector(tensor, field=f"{field}.vector")

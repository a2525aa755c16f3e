"""Reads replies into what callers get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import Any

import numpy as np

from diptych.client.errors import ClientError
from diptych.client.metadata import moment_of_timestamp, values_of_metadata
from diptych.client.statuses import error_of_status
from diptych.client.tensors import array_of_tensor
from diptych.client.types import (
    Collection,
    Embeddings,
    Encoder,
    IndexStatus,
    Neighbours,
    Recall,
    Record,
    ServerInformation,
    WriteResult,
)
from diptych.v1 import (
    admin_service_pb2,
    collection_pb2,
    collection_service_pb2,
    embedding_pb2,
    encoder_service_pb2,
    search_service_pb2,
)

__all__ = [
    "collection_of",
    "embeddings_of",
    "encoder_of",
    "errors_of",
    "neighbours_of",
    "raise_first",
    "record_of",
    "server_information_of",
    "write_result_of",
]


def _word(enum: Any, value: int, prefix: str) -> str:
    """Returns the plain word of an enum's value; empty for the unspecified one, and for one from a newer server."""
    if value == 0 or value not in enum.values():
        return ""
    return str(enum.Name(value)).removeprefix(prefix).lower()


def _metric(value: embedding_pb2.Metric.ValueType) -> str:
    return _word(embedding_pb2.Metric, value, "METRIC_")


def _index(value: collection_pb2.IndexKind.ValueType) -> str:
    return _word(collection_pb2.IndexKind, value, "INDEX_KIND_")


def encoder_of(message: encoder_service_pb2.Encoder) -> Encoder:
    """Reads an encoder."""
    return Encoder(
        name=message.name,
        state=_word(encoder_service_pb2.EncoderState, message.state, "ENCODER_STATE_"),
        state_message=message.state_message,
        version=message.version,
        modality=_word(embedding_pb2.Modality, message.modality, "MODALITY_"),
        dimension=message.dimension,
        metric=_metric(message.metric),
        space=message.space,
        fingerprint=message.fingerprint,
        precision=message.precision,
        max_tokens=message.max_tokens,
        image_size_px=message.image_size_px,
        truncatable_dimensions=tuple(message.truncatable_dimensions),
        aliases=tuple(message.aliases),
    )


def errors_of(item_errors: Iterable[embedding_pb2.ItemError], *, offset: int = 0) -> dict[int, ClientError]:
    """Reads the errors of single items.

    Args:
        item_errors: From a reply.
        offset: Index of the reply's first item in the caller's batch.

    Returns:
        Errors by the caller's index.
    """
    return {offset + item.index: error_of_status(item.status) for item in item_errors}


def raise_first(errors: Mapping[int, ClientError], *, allow_partial: bool) -> None:
    """Raises the first item's error, unless the caller takes what there is.

    Args:
        errors: Errors by index.
        allow_partial: Whether the caller does.

    Raises:
        ClientError: The first one; its message names the index.
    """
    if not errors or allow_partial:
        return
    index = min(errors)
    error = errors[index]
    error.message = f"item {index}: {error.message}" + (f" ({len(errors)} items failed)" if len(errors) > 1 else "")
    error.args = (error.message,)
    raise error


def embeddings_of(replies: Sequence[encoder_service_pb2.EmbedResponse], *, allow_partial: bool) -> Embeddings:
    """Reads the replies to the calls that one batch was cut into.

    Args:
        replies: At least one, in order.
        allow_partial: Whether failed items are returned as errors.

    Returns:
        The whole batch.

    Raises:
        ClientError: An encoder was swapped in between, so that the vectors do not belong together.
    """
    stamp = replies[0].encoder
    errors: dict[int, ClientError] = {}
    count = 0
    for reply in replies:
        if reply.encoder.fingerprint != stamp.fingerprint:
            raise ClientError(
                f"encoder '{stamp.name}' was replaced in the middle of the batch; send it again", code="ABORTED"
            )
        errors |= errors_of(reply.item_errors, offset=count)
        count += len(reply.token_counts)
    raise_first(errors, allow_partial=allow_partial)
    scales = [scale for reply in replies for scale in reply.vectors.row_scales]
    return Embeddings(
        vectors=_stack([array_of_tensor(reply.vectors) for reply in replies]),
        scales=np.array(scales, np.float32) if scales else None,
        errors=errors,
        token_counts=np.array([tokens for reply in replies for tokens in reply.token_counts], np.int32),
        truncated=np.array([cut for reply in replies for cut in reply.truncated], np.bool_),
        encoder=stamp.name,
        version=stamp.version,
        space=stamp.space,
        fingerprint=stamp.fingerprint,
        queue_s=max(reply.timing.queue_duration.ToNanoseconds() / 1e9 for reply in replies),
        compute_s=sum(reply.timing.compute_duration.ToNanoseconds() / 1e9 for reply in replies),
    )


def _stack(arrays: list[Any]) -> Any:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def collection_of(message: collection_pb2.Collection) -> Collection:
    """Reads a collection."""
    return Collection(
        name=message.name,
        display_name=message.display_name,
        encoder=message.encoder,
        space=message.space,
        dimension=message.dimension,
        metric=_metric(message.metric),
        index=_index(message.index_kind),
        active_index=_index(message.active_index_kind),
        index_status=index_status_of(message.index_status),
        retain_sources=message.retain_sources,
        create_time=message.create_time.ToDatetime(UTC),
        update_time=message.update_time.ToDatetime(UTC),
        record_count=message.record_count,
        indexed_count=message.indexed_count,
        sequence=message.sequence,
        fields={field.name: _word(collection_pb2.FieldType, field.type, "FIELD_TYPE_") for field in message.fields},
    )


def index_status_of(message: collection_pb2.IndexStatus) -> IndexStatus:
    """Reads an index as it stands."""
    recall = message.recall
    return IndexStatus(
        active=message.active,
        reason=message.reason,
        bytes_per_vector=message.bytes_per_vector,
        build_progress=message.build_progress if message.HasField("build_progress") else None,
        indexed_count=message.indexed_count,
        tail_count=message.tail_count,
        ef_search=message.ef_search,
        probes=message.probes,
        rerank_factor=message.rerank_factor,
        recall=Recall(recall=recall.recall, low=recall.low, high=recall.high, query_count=recall.query_count)
        if message.HasField("recall")
        else None,
    )


def record_of(message: collection_pb2.Record) -> Record:
    """Reads a record."""
    return Record(
        id=message.id,
        version=message.version,
        fingerprint=message.fingerprint,
        vector=array_of_tensor(message.vector) if message.HasField("vector") else None,
        metadata=values_of_metadata(message.metadata),
        source=message.source.data if message.HasField("source") else None,
        source_type=message.source.mime_type,
        expire_time=moment_of_timestamp(message.expire_time) if message.HasField("expire_time") else None,
    )


def write_result_of(
    replies: Sequence[collection_service_pb2.UpsertRecordsResponse],
) -> WriteResult:
    """Reads the replies to the calls that one batch of writes was cut into.

    Args:
        replies: At least one, in order.

    Returns:
        The whole batch.
    """
    errors: dict[int, ClientError] = {}
    truncated: list[int] = []
    count = 0
    for reply in replies:
        errors |= errors_of(reply.item_errors, offset=count)
        truncated.extend(count + index for index in reply.truncated_indices)
        count += len(reply.versions)
    versions = [version for reply in replies for version in reply.versions]
    return WriteResult(
        sequence=replies[-1].sequence, versions=np.array(versions, np.int64), errors=errors, truncated=truncated
    )


def neighbours_of(
    message: search_service_pb2.Neighbours, parts: collection_pb2.RecordParts, error: ClientError | None = None
) -> Neighbours:
    """Reads the neighbours of one query.

    Args:
        message: From a reply.
        parts: Which parts were asked for.
        error: Why the query failed; None where it did not.

    Returns:
        The neighbours.
    """
    return Neighbours(
        ids=list(message.ids),
        scores=np.array(message.scores, np.float32),
        versions=np.array(message.versions, np.int64),
        vectors=array_of_tensor(message.vectors) if message.HasField("vectors") else None,
        metadata=[values_of_metadata(one) for one in message.metadata] if parts.metadata else None,
        sources=[one.data for one in message.sources] if parts.source else None,
        error=error,
    )


def server_information_of(message: admin_service_pb2.GetServerInformationResponse) -> ServerInformation:
    """Reads what the server is."""
    limits = message.limits
    return ServerInformation(
        version=message.version,
        start_time=message.start_time.ToDatetime(UTC),
        limits={field.name: int(getattr(limits, field.name)) for field in limits.DESCRIPTOR.fields},
        unimplemented_methods=list(message.unimplemented_methods),
    )

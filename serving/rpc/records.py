"""Records and collections as the wire has them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from diptych.v1 import collection_pb2
from models.bundle.encoder import EncoderInfo
from serving.collections.types import CollectionInfo, CollectionSpec, FieldDefinition, Metric, Record
from serving.errors import InvalidInput, SpaceMismatch
from serving.rpc.enums import (
    FIELD_TYPE_TO_WIRE,
    INDEX_KIND_TO_WIRE,
    METRIC_TO_WIRE,
    field_type_from_wire,
    metric_from_wire,
)
from serving.rpc.indexes import index_from_wire, index_status_to_wire, index_to_wire
from serving.rpc.metadata import metadata_to_wire, timestamp_to_wire
from serving.rpc.tensor import encode_vectors

__all__ = [
    "DEFAULT_PARTS",
    "collection_to_wire",
    "fields_from_wire",
    "record_to_wire",
    "source_to_wire",
    "spec_from_wire",
]

DEFAULT_PARTS = collection_pb2.RecordParts(metadata=True)
"""What a read returns where the request does not say."""


def spec_from_wire(message: collection_pb2.Collection, encoder: EncoderInfo | None) -> CollectionSpec:
    """Reads what a new collection shall be, and takes from its encoder what is not stated.

    Args:
        message: As sent.
        encoder: The encoder it names; None where it names none.

    Returns:
        The specification.

    Raises:
        InvalidInput: What is stated contradicts the encoder, or a dimension is missing.
        SpaceMismatch: The space stated is not the encoder's.
    """
    metric = metric_from_wire(message.metric)
    if encoder is not None:
        _check_against(encoder, message, metric)
        space, dimension = encoder.space, encoder.dimension
        metric = Metric(encoder.metric)
    else:
        space, dimension = message.space, message.dimension
        metric = metric or Metric.COSINE
    if dimension == 0:
        raise InvalidInput("a collection needs an encoder or a dimension", collection=message.name)
    return CollectionSpec(
        name=message.name,
        space=space,
        dimension=dimension,
        metric=metric,
        # By its name alone: which version answers, the space decides.
        encoder=encoder.name if encoder is not None else "",
        index=index_from_wire(message),
        display_name=message.display_name,
        retain_source=message.retain_sources,
        fields=fields_from_wire(message.fields),
    )


def fields_from_wire(messages: Iterable[collection_pb2.FieldDefinition]) -> tuple[FieldDefinition, ...]:
    """Reads declared fields.

    Args:
        messages: As sent.

    Returns:
        The fields, names unchecked.

    Raises:
        InvalidInput: A type is unspecified or unknown.
    """
    return tuple(
        FieldDefinition(message.name, field_type_from_wire(message.type, field=message.name)) for message in messages
    )


def _check_against(encoder: EncoderInfo, message: collection_pb2.Collection, metric: Metric | None) -> None:
    if message.space not in ("", encoder.space):
        raise SpaceMismatch(
            f"encoder '{encoder.name}' makes vectors of the space '{encoder.space}', not of '{message.space}'",
            encoder=encoder.name,
            encoder_space=encoder.space,
            space=message.space,
        )
    if message.dimension not in (0, encoder.dimension):
        raise InvalidInput(
            f"dimension ({message.dimension}) must be {encoder.dimension}, that of encoder '{encoder.name}', or unset",
            dimension=message.dimension,
            encoder_dimension=encoder.dimension,
        )
    if metric is not None and metric != encoder.metric:
        raise InvalidInput(
            f"metric ({metric}) must be {encoder.metric}, that of encoder '{encoder.name}', or unset", metric=metric
        )


def collection_to_wire(info: CollectionInfo) -> collection_pb2.Collection:
    """Writes a collection as it stands.

    Args:
        info: The collection.

    Returns:
        The message.
    """
    spec = info.spec
    return collection_pb2.Collection(
        name=spec.name,
        display_name=spec.display_name,
        encoder=spec.encoder,
        space=spec.space,
        dimension=spec.dimension,
        metric=METRIC_TO_WIRE[spec.metric],
        index_kind=INDEX_KIND_TO_WIRE[spec.index.kind],
        retain_sources=spec.retain_source,
        create_time=_timestamp(info.create_time),
        update_time=_timestamp(info.update_time),
        record_count=info.record_count,
        indexed_count=info.indexed_count,
        active_index_kind=INDEX_KIND_TO_WIRE[info.index_kind],
        sequence=info.sequence,
        fields=[
            collection_pb2.FieldDefinition(name=field.name, type=FIELD_TYPE_TO_WIRE[field.type])
            for field in spec.fields
        ],
        index=index_to_wire(spec.index),
        index_status=index_status_to_wire(info.index),
    )


def record_to_wire(record: Record, parts: collection_pb2.RecordParts) -> collection_pb2.Record:
    """Writes the parts of a record that were asked for.

    Args:
        record: The record.
        parts: Which parts.

    Returns:
        The message; id, version, fingerprint and expire time are always there.
    """
    return collection_pb2.Record(
        id=record.id,
        version=record.version,
        fingerprint=record.fingerprint,
        vector=encode_vectors(record.vector) if parts.vector else None,
        metadata=metadata_to_wire(record.metadata) if parts.metadata else None,
        source=source_to_wire(record) if parts.source and record.source is not None else None,
        expire_time=timestamp_to_wire(record.expire_time) if record.expire_time is not None else None,
    )


def source_to_wire(record: Record) -> collection_pb2.Source:
    """Writes what a record was embedded from.

    Args:
        record: The record.

    Returns:
        The message; empty where nothing was kept.
    """
    return collection_pb2.Source(mime_type=record.source_type, data=record.source or b"")


def _timestamp(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message

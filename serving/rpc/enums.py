"""The wire's enums and the domain's, side by side."""

from __future__ import annotations

from diptych.v1 import collection_pb2, embedding_pb2, encoder_service_pb2
from models.bundle.encoder import Modality, Purpose
from serving.collections.types import FieldType, IndexKind, Metric
from serving.encoders.state import EncoderPhase
from serving.errors import InvalidInput

__all__ = [
    "ENCODER_STATE_TO_WIRE",
    "FIELD_TYPE_TO_WIRE",
    "INDEX_KIND_TO_WIRE",
    "METRIC_TO_WIRE",
    "MODALITY_TO_WIRE",
    "field_type_from_wire",
    "index_kind_from_wire",
    "metric_from_wire",
    "purpose_from_wire",
    "truncates",
]

MODALITY_TO_WIRE = {
    Modality.TEXT: embedding_pb2.MODALITY_TEXT,
    Modality.IMAGE: embedding_pb2.MODALITY_IMAGE,
}
METRIC_TO_WIRE = {
    Metric.COSINE: embedding_pb2.METRIC_COSINE,
    Metric.INNER_PRODUCT: embedding_pb2.METRIC_INNER_PRODUCT,
    Metric.L2: embedding_pb2.METRIC_L2,
}
INDEX_KIND_TO_WIRE = {
    IndexKind.AUTO: collection_pb2.INDEX_KIND_AUTO,
    IndexKind.EXACT: collection_pb2.INDEX_KIND_EXACT,
    IndexKind.HNSW: collection_pb2.INDEX_KIND_HNSW,
    IndexKind.IVF: collection_pb2.INDEX_KIND_IVF,
}
FIELD_TYPE_TO_WIRE = {
    FieldType.STRING: collection_pb2.FIELD_TYPE_STRING,
    FieldType.INTEGER: collection_pb2.FIELD_TYPE_INTEGER,
    FieldType.FLOAT: collection_pb2.FIELD_TYPE_FLOAT,
    FieldType.BOOL: collection_pb2.FIELD_TYPE_BOOL,
    FieldType.TIMESTAMP: collection_pb2.FIELD_TYPE_TIMESTAMP,
    FieldType.STRING_LIST: collection_pb2.FIELD_TYPE_STRING_LIST,
    FieldType.GEO_POINT: collection_pb2.FIELD_TYPE_GEO_POINT,
}
ENCODER_STATE_TO_WIRE = {
    EncoderPhase.LOADING: encoder_service_pb2.ENCODER_STATE_LOADING,
    EncoderPhase.SERVING: encoder_service_pb2.ENCODER_STATE_SERVING,
    EncoderPhase.REFUSED: encoder_service_pb2.ENCODER_STATE_REFUSED,
    EncoderPhase.DRAINING: encoder_service_pb2.ENCODER_STATE_DRAINING,
    EncoderPhase.STOPPED: encoder_service_pb2.ENCODER_STATE_DRAINING,
}
PURPOSES = {
    embedding_pb2.PURPOSE_UNSPECIFIED: Purpose.DOCUMENT,
    embedding_pb2.PURPOSE_DOCUMENT: Purpose.DOCUMENT,
    embedding_pb2.PURPOSE_QUERY: Purpose.QUERY,
}
TRUNCATIONS = {
    embedding_pb2.TRUNCATION_UNSPECIFIED: True,
    embedding_pb2.TRUNCATION_CUT: True,
    embedding_pb2.TRUNCATION_REFUSE: False,
}


def purpose_from_wire(value: embedding_pb2.Purpose.ValueType) -> Purpose:
    """Returns the purpose; unspecified means document.

    Args:
        value: As sent.

    Returns:
        The domain's word.

    Raises:
        InvalidInput: A number this server does not know.
    """
    purpose = PURPOSES.get(value)
    if purpose is None:
        raise InvalidInput(f"purpose ({value}) is none that this server knows", purpose=value)
    return purpose


def truncates(value: embedding_pb2.Truncation.ValueType) -> bool:
    """Returns whether over-long texts are cut; unspecified means yes.

    Args:
        value: As sent.

    Returns:
        False where they are refused.

    Raises:
        InvalidInput: A number this server does not know.
    """
    cut = TRUNCATIONS.get(value)
    if cut is None:
        raise InvalidInput(f"truncation ({value}) is none that this server knows", truncation=value)
    return cut


def metric_from_wire(value: embedding_pb2.Metric.ValueType) -> Metric | None:
    """Returns the metric, or None where none was stated.

    Args:
        value: As sent.

    Returns:
        The domain's word.

    Raises:
        InvalidInput: A number this server does not know.
    """
    if value == embedding_pb2.METRIC_UNSPECIFIED:
        return None
    for metric, wire in METRIC_TO_WIRE.items():
        if wire == value:
            return metric
    raise InvalidInput(f"metric ({value}) is none that this server knows", metric=value)


def field_type_from_wire(value: collection_pb2.FieldType.ValueType, *, field: str) -> FieldType:
    """Returns the type of a declared field.

    Args:
        value: As sent.
        field: The field's name, for the message.

    Returns:
        The domain's word.

    Raises:
        InvalidInput: It is unspecified, or a number this server does not know.
    """
    for kind, wire in FIELD_TYPE_TO_WIRE.items():
        if wire == value:
            return kind
    raise InvalidInput(
        f"field {field!r:.150} has type {value}, which is none that this server knows", field=field[:128]
    )


def index_kind_from_wire(value: collection_pb2.IndexKind.ValueType) -> IndexKind:
    """Returns the index kind; unspecified means `auto`.

    Args:
        value: As sent.

    Returns:
        The domain's word.

    Raises:
        InvalidInput: A number this server does not know.
    """
    if value == collection_pb2.INDEX_KIND_UNSPECIFIED:
        return IndexKind.AUTO
    for kind, wire in INDEX_KIND_TO_WIRE.items():
        if wire == value:
            return kind
    raise InvalidInput(f"index_kind ({value}) is none that this server knows", index_kind=value)

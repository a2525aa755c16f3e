"""Metadata to its wire form and back, each value in the type it keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from diptych.v1 import metadata_pb2
from serving.collections.types import GeoPoint, MetadataValue
from serving.errors import InvalidInput

__all__ = ["metadata_from_wire", "metadata_to_wire", "timestamp_from_wire", "timestamp_to_wire", "value_from_wire"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def metadata_from_wire(message: metadata_pb2.Metadata, *, field: str = "metadata") -> dict[str, MetadataValue]:
    """Reads a record's metadata.

    Args:
        message: The metadata as sent.
        field: Where it stood in the request, for the message.

    Returns:
        The values by name.

    Raises:
        InvalidInput: A value has no kind, or lies outside what can be kept.
    """
    return {name: value_from_wire(value, f"{field}['{name}']") for name, value in message.values.items()}


def metadata_to_wire(metadata: Mapping[str, MetadataValue]) -> metadata_pb2.Metadata:
    """Writes a record's metadata.

    Args:
        metadata: The values by name.

    Returns:
        The message.
    """
    message = metadata_pb2.Metadata()
    for name, value in metadata.items():
        _write_value(message.values[name], value)
    return message


def timestamp_from_wire(stamp: Timestamp, field: str) -> datetime:
    """Reads a moment, to the microsecond.

    Args:
        stamp: As sent; finer digits are cut.
        field: Where it stood in the request, for the message.

    Returns:
        In UTC.

    Raises:
        InvalidInput: It lies outside the years 1 to 9999.
    """
    try:
        # Not `ToDatetime`, which rounds through floats; finer digits than microseconds are cut.
        return EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)
    except OverflowError:
        raise InvalidInput(f"{field}: the timestamp must lie in the years 1 to 9999", field=field) from None


READERS: dict[str, Callable[[metadata_pb2.MetadataValue, str], MetadataValue]] = {
    "string_value": lambda value, _field: value.string_value,
    "int64_value": lambda value, _field: value.int64_value,
    "double_value": lambda value, _field: value.double_value,
    "bool_value": lambda value, _field: value.bool_value,
    "timestamp_value": lambda value, field: timestamp_from_wire(value.timestamp_value, field),
    "string_list_value": lambda value, _field: tuple(value.string_list_value.values),
    "geo_point_value": lambda value, _field: GeoPoint(
        value.geo_point_value.latitude_deg, value.geo_point_value.longitude_deg
    ),
}


def value_from_wire(value: metadata_pb2.MetadataValue, field: str) -> MetadataValue:
    """Reads one value.

    Args:
        value: As sent.
        field: Where it stood in the request, for the message.

    Returns:
        The value.

    Raises:
        InvalidInput: It has no kind, or lies outside what can be kept.
    """
    kind = value.WhichOneof("kind")
    if kind is None:
        raise InvalidInput(f"{field} has no value; there is no null: leave the field out", field=field)
    return READERS[kind](value, field)


def timestamp_to_wire(moment: datetime) -> Timestamp:
    """Writes a moment, to the microsecond.

    Args:
        moment: With a time zone.

    Returns:
        The message.
    """
    message = Timestamp()
    # Whole microseconds, so that no float rounds them.
    message.FromMicroseconds((moment - EPOCH) // timedelta(microseconds=1))
    return message


def _write_value(message: metadata_pb2.MetadataValue, value: MetadataValue) -> None:
    # bool before int: Python's True is an int.
    match value:
        case bool():
            message.bool_value = value
        case str():
            message.string_value = value
        case int():
            message.int64_value = value
        case float():
            message.double_value = value
        case datetime():
            message.timestamp_value.CopyFrom(timestamp_to_wire(value))
        case GeoPoint():
            message.geo_point_value.latitude_deg = value.latitude_deg
            message.geo_point_value.longitude_deg = value.longitude_deg
        case tuple():
            message.string_list_value.SetInParent()
            message.string_list_value.values.extend(value)

"""Metadata between Python's values and the wire's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from diptych.client.types import GeoPoint, MetadataValue
from diptych.v1 import metadata_pb2

__all__ = ["metadata_of_values", "moment_of_timestamp", "timestamp_of_moment", "values_of_metadata", "write_value"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INT64 = range(-(2**63), 2**63)


def metadata_of_values(values: Mapping[str, MetadataValue]) -> metadata_pb2.Metadata:
    """Writes metadata for the wire.

    Args:
        values: Strings, 64-bit integers, floats, booleans, datetimes with a time zone, lists of strings, places.

    Returns:
        The message.

    Raises:
        ValueError: A value is of another type, or cannot be kept.
    """
    message = metadata_pb2.Metadata()
    for name, value in values.items():
        write_value(message.values[name], f"metadata '{name}'", value)
    return message


def write_value(message: metadata_pb2.MetadataValue, label: str, value: object) -> None:
    """Writes one value into a message.

    Args:
        message: An empty one.
        label: What the value is, for the error.
        value: As in `metadata_of_values`.

    Raises:
        ValueError: It is of another type, or cannot be kept.
    """
    # bool before int: Python's True is an int.
    match value:
        case bool():
            message.bool_value = value
        case str():
            message.string_value = value
        case int():
            message.int64_value = _int64(label, value)
        case float():
            message.double_value = value
        case datetime():
            message.timestamp_value.CopyFrom(timestamp_of_moment(value, label))
        case GeoPoint():
            message.geo_point_value.latitude_deg = value.latitude_deg
            message.geo_point_value.longitude_deg = value.longitude_deg
        case list() | tuple():
            message.string_list_value.SetInParent()
            message.string_list_value.values.extend(_strings(label, value))
        case _:
            raise ValueError(
                f"{label} is of type {type(value).__name__}; it must be str, int, float, bool, "
                "datetime, GeoPoint or a list of str (an absent value is left out)"
            )


def _int64(label: str, value: int) -> int:
    if value not in INT64:
        raise ValueError(f"{label} ({value}) must fit 64 bits, signed")
    return value


def timestamp_of_moment(moment: datetime, what: str) -> Timestamp:
    """Writes a moment for the wire.

    Args:
        moment: With a time zone.
        what: What it is, for the message.

    Returns:
        The message, to the microsecond.

    Raises:
        ValueError: It has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{what} ({moment.isoformat()}) needs a time zone, such as datetime.UTC")
    message = Timestamp()
    # Whole microseconds, so that no float rounds them.
    message.FromMicroseconds((moment - EPOCH) // timedelta(microseconds=1))
    return message


def moment_of_timestamp(message: Timestamp) -> datetime:
    """Reads a moment from the wire.

    Args:
        message: From a server.

    Returns:
        In UTC, to the microsecond.
    """
    return EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


def _strings(label: str, values: Sequence[object]) -> list[str]:
    strings = [value for value in values if isinstance(value, str)]
    if len(strings) != len(values):
        raise ValueError(f"{label} is a list; each of its elements must be a str")
    return strings


READERS: dict[str, Callable[[metadata_pb2.MetadataValue], MetadataValue]] = {
    "string_value": lambda value: value.string_value,
    "int64_value": lambda value: value.int64_value,
    "double_value": lambda value: value.double_value,
    "bool_value": lambda value: value.bool_value,
    "timestamp_value": lambda value: moment_of_timestamp(value.timestamp_value),
    "string_list_value": lambda value: list(value.string_list_value.values),
    "geo_point_value": lambda value: GeoPoint(value.geo_point_value.latitude_deg, value.geo_point_value.longitude_deg),
}


def values_of_metadata(message: metadata_pb2.Metadata) -> dict[str, MetadataValue]:
    """Reads metadata from the wire.

    Args:
        message: From a server.

    Returns:
        The values by name; kinds that this client is too old to know are left out.
    """
    kinds = {name: value.WhichOneof("kind") for name, value in message.values.items()}
    return {name: READERS[kind](message.values[name]) for name, kind in kinds.items() if kind in READERS}

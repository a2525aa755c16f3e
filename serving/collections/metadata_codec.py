"""Metadata as JSON text that loses nothing.

Strings, booleans, 64-bit integers, finite doubles and lists of strings are themselves; what JSON has no word for is an
object of one key: `{"timestamp_us": 1700000000000000}`, `{"geo": [52.5, 13.4]}`, `{"double": "Infinity"}`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from serving.collections.config import MAX_METADATA_BYTES
from serving.collections.types import GeoPoint, MetadataValue
from serving.errors import InputTooLarge, InvalidInput

__all__ = ["decode_fields", "decode_metadata", "encode_metadata"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MAX_KEY_BYTES = 256


def encode_metadata(metadata: Mapping[str, MetadataValue]) -> str:
    """Writes metadata as compact JSON.

    Args:
        metadata: Values of the seven types of `MetadataValue`.

    Returns:
        JSON text, keys sorted, at most `MAX_METADATA_BYTES` in UTF-8.

    Raises:
        InvalidInput: A key or value that cannot be stored; the message names the key.
        InputTooLarge: More than `MAX_METADATA_BYTES`.
    """
    if not metadata:
        return "{}"
    plain = {_checked_key(key): _to_json(key, metadata[key]) for key in sorted(metadata)}
    text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    size_bytes = len(text.encode("utf-8"))
    if size_bytes > MAX_METADATA_BYTES:
        raise InputTooLarge(
            f"metadata takes {size_bytes} bytes as stored, more than {MAX_METADATA_BYTES}; keep less beside it",
            size_bytes=size_bytes,
            limit_bytes=MAX_METADATA_BYTES,
        )
    return text


def decode_metadata(text: str) -> dict[str, MetadataValue]:
    """Reads what `encode_metadata` wrote, to equal values of equal types.

    Args:
        text: JSON text.

    Returns:
        Metadata by key.
    """
    if text == "{}":
        return {}
    return {key: _from_json(value) for key, value in json.loads(text).items()}


def decode_fields(texts: Sequence[bytes], names: Sequence[str]) -> list[dict[str, MetadataValue]]:
    """Reads some of the values of many records: one call of the parser for all of them.

    Args:
        texts: What `encode_metadata` wrote, in UTF-8.
        names: Keys to read.

    Returns:
        Per record the values it has.
    """
    plain = json.loads(b"[" + b",".join(texts) + b"]")
    return [{name: _from_json(values[name]) for name in names if name in values} for values in plain]


def _checked_key(key: str) -> str:
    if not key or not _is_utf8(key) or len(key.encode("utf-8")) > _MAX_KEY_BYTES:
        raise InvalidInput(f"metadata key {key!r:.80} must be 1 to {_MAX_KEY_BYTES} bytes of UTF-8", key=repr(key)[:80])
    return key


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _to_json(key: str, value: Any) -> Any:
    match value:
        case bool():
            return value
        case str():
            return _checked_text(key, value)
        case int():
            return _checked_integer(key, value)
        case float():
            return _double_to_json(key, value)
        case datetime():
            return _timestamp_to_json(key, value)
        case GeoPoint():
            return _geo_to_json(key, value)
        case tuple() | list():
            return [_checked_text(key, item) for item in value]
        case _:
            raise InvalidInput(
                f"metadata {key!r}: {type(value).__name__} is not storable; use a string, integer, double, boolean, "
                "timestamp, list of strings or geo point",
                key=key,
                type=type(value).__name__,
            )


def _checked_integer(key: str, value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise InvalidInput(f"metadata {key!r}: integer {value} does not fit in 64 bits", key=key)
    return value


def _checked_text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"metadata {key!r}: a list holds strings only, not {type(value).__name__}", key=key)
    if not _is_utf8(value):
        raise InvalidInput(f"metadata {key!r}: text is not valid UTF-8", key=key)
    return value


def _double_to_json(key: str, value: float) -> Any:
    if math.isnan(value):
        raise InvalidInput(f"metadata {key!r}: NaN is not storable; leave the key out instead", key=key)
    if math.isinf(value):
        return {"double": "Infinity" if value > 0 else "-Infinity"}
    return float(value)


def _timestamp_to_json(key: str, value: datetime) -> dict[str, int]:
    if value.utcoffset() is None:
        raise InvalidInput(f"metadata {key!r}: timestamp {value.isoformat()} has no time zone; give it one", key=key)
    return {"timestamp_us": (value - _EPOCH) // _MICROSECOND}


def _geo_to_json(key: str, value: GeoPoint) -> dict[str, list[float]]:
    latitude, longitude = float(value.latitude_deg), float(value.longitude_deg)
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        raise InvalidInput(
            f"metadata {key!r}: ({latitude}, {longitude}) is not on Earth; latitude is in [-90, 90] degrees, "
            "longitude in [-180, 180]",
            key=key,
        )
    return {"geo": [latitude, longitude]}


def _from_json(value: Any) -> MetadataValue:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, dict):
        ((kind, content),) = value.items()
        if kind == "timestamp_us":
            return _EPOCH + int(content) * _MICROSECOND
        if kind == "geo":
            return GeoPoint(content[0], content[1])
        return float(content)
    plain: str | int | float | bool = value
    return plain

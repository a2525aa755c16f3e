"""A record's row in SQLite, and the checksum that tells whether it is still what was written."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.collections.clock import moment_of
from serving.collections.metadata_codec import decode_metadata
from serving.collections.types import Record
from serving.errors import Corrupted

__all__ = ["RecordRow", "SourceRow", "decode_record", "decode_vector", "record_checksum", "source_checksum"]

_HEADER = struct.Struct("<qqIIII")


class RecordRow(NamedTuple):
    """The columns of table `records`, in their order."""

    key: int
    """Sequence that wrote the vector: the row id, and the name the index knows it by."""
    id: bytes
    version: int
    """Sequence that last wrote the record."""
    vector: bytes
    """float32, little-endian."""
    metadata: bytes
    fingerprint: bytes
    checksum: int
    expire_us: int | None = None
    """Microseconds since 1970 from which on it is no more."""


class SourceRow(NamedTuple):
    """The columns of table `sources`, in their order."""

    key: int
    type: bytes
    content: bytes
    checksum: int


def record_checksum(row: RecordRow) -> int:
    """Returns the CRC-32 of a row, its own `checksum` left out.

    Args:
        row: Any row.

    Returns:
        Unsigned 32-bit checksum over the lengths and bytes of every other column.
    """
    lengths = (len(row.id), len(row.vector), len(row.metadata), len(row.fingerprint))
    checksum = zlib.crc32(_HEADER.pack(row.key, row.version, *lengths))
    for part in (row.id, row.vector, row.metadata, row.fingerprint):
        checksum = zlib.crc32(part, checksum)
    # Rows without it keep the checksum that format 1 gave them.
    return checksum if row.expire_us is None else zlib.crc32(struct.pack("<q", row.expire_us), checksum)


def source_checksum(key: int, source_type: bytes, content: bytes) -> int:
    """Returns the CRC-32 of a retained source.

    Args:
        key: Key of its record.
        source_type: MIME type.
        content: The text or image.

    Returns:
        Unsigned 32-bit checksum.
    """
    return zlib.crc32(content, zlib.crc32(source_type, zlib.crc32(struct.pack("<qI", key, len(source_type)))))


def decode_vector(row: RecordRow, dimension: int) -> NDArray[np.float32]:
    """Returns the vector of a row whose checksum holds.

    Args:
        row: As stored.
        dimension: Width it must have.

    Returns:
        `[d]` float32, read-only.

    Raises:
        Corrupted: The row is not what was written; the message names the record.
    """
    if record_checksum(row) != row.checksum or len(row.vector) != 4 * dimension:
        name = row.id.decode("utf-8", "replace")
        raise Corrupted(
            f"record {name!r} does not match its checksum; delete it or write it anew", record_id=name, key=row.key
        )
    return np.frombuffer(row.vector, dtype="<f4")


def decode_record(row: RecordRow, source: SourceRow | None, dimension: int) -> Record:
    """Returns the record of a row whose checksum holds.

    Args:
        row: As stored.
        source: Its retained source, where there is one.
        dimension: Width of its vector.

    Returns:
        The record.

    Raises:
        Corrupted: The row or its source is not what was written.
    """
    vector = decode_vector(row, dimension)
    name = row.id.decode("utf-8")
    if source is not None and source_checksum(source.key, source.type, source.content) != source.checksum:
        raise Corrupted(f"the source of record {name!r} does not match its checksum", record_id=name, key=row.key)
    return Record(
        id=name,
        version=row.version,
        vector=vector,
        metadata=decode_metadata(row.metadata.decode("utf-8")),
        source=source.content if source is not None else None,
        source_type=source.type.decode("utf-8") if source is not None else "",
        fingerprint=row.fingerprint.decode("utf-8"),
        expire_time=None if row.expire_us is None else moment_of(row.expire_us),
    )

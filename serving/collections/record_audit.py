"""Reads a whole record and says what is wrong with it, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import apsw

from serving.collections.database import read_scalar, storage_errors
from serving.collections.record_codec import RecordRow, SourceRow, decode_record, source_checksum
from serving.collections.record_reader import RecordReader
from serving.collections.record_schema import read_sequence
from serving.collections.types import CollectionSpec
from serving.errors import Corrupted

__all__ = ["AuditSummary", "RecordDamage", "audit_records", "damaged_rows", "damaged_sources"]

_TICK_ROWS = 1_024


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditSummary:
    """A record in which everything is as it was written."""

    sequence: int
    record_count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordDamage:
    """One row that is not what was written."""

    key: int
    id: bytes
    """As stored; of a source, empty."""
    message: str


def audit_records(
    path: Path, spec: CollectionSpec, uid: str, *, tick: Callable[[float], None] = lambda _: None
) -> AuditSummary:
    """Verifies every checksum of a database that nobody writes.

    Args:
        path: Database file of the current format.
        spec: The collection.
        uid: The collection's.
        tick: Told of the share done, in [0, 1]; may raise.

    Returns:
        What it holds.

    Raises:
        Corrupted: Something is not what was written; the message names it.
    """
    reader = RecordReader(path, dimension=spec.dimension, with_sources=spec.retain_source, name=spec.name)
    try:
        with reader.snapshot() as connection:
            found = connection.execute("SELECT uid FROM collection").fetchone()
            if found != (uid,):
                raise Corrupted(f"{path} is not the database of collection {spec.name!r}", collection=spec.name)
            for damage in damaged_rows(reader, connection, spec, tick=lambda share: tick(share / 2)):
                raise Corrupted(damage.message, collection=spec.name)
            for damage in damaged_sources(connection, tick=lambda share: tick(0.5 + share / 2)):
                raise Corrupted(damage.message, collection=spec.name)
            count = read_scalar(connection, "SELECT count(*) FROM records")
            return AuditSummary(sequence=read_sequence(connection), record_count=count)
    finally:
        reader.close()


def damaged_rows(
    reader: RecordReader,
    connection: apsw.Connection,
    spec: CollectionSpec,
    *,
    tick: Callable[[float], None] = lambda _: None,
) -> Iterator[RecordDamage]:
    """Yields the records that are not what was written.

    Args:
        reader: Of the collection.
        connection: From its `snapshot`.
        spec: The collection.
        tick: Told of the share done.

    Yields:
        Each with its reason.
    """
    count = read_scalar(connection, "SELECT count(*) FROM records")
    sequence = read_sequence(connection)
    for number, row in enumerate(reader.scan(connection, after_key=0)):
        if number % _TICK_ROWS == 0:
            tick(number / max(count, 1))
        message = _record_fault(row, spec, sequence)
        if message:
            yield RecordDamage(key=row.key, id=row.id, message=message)


def damaged_sources(
    connection: apsw.Connection, *, tick: Callable[[float], None] = lambda _: None
) -> Iterator[RecordDamage]:
    """Yields the retained sources that are not what was written, or belong to no record.

    Args:
        connection: To a collection's database, reading one state.
        tick: Told of the share done.

    Yields:
        Each with its reason.
    """
    count = read_scalar(connection, "SELECT count(*) FROM sources")
    statement = (
        "SELECT s.key, s.type, s.content, s.checksum, r.key FROM sources AS s LEFT JOIN records AS r ON r.key = s.key "
        "ORDER BY s.key"
    )
    with storage_errors("the sources", connection):
        for number, found in enumerate(cast("Iterable[Sequence[Any]]", connection.execute(statement))):
            if number % _TICK_ROWS == 0:
                tick(number / max(count, 1))
            source = SourceRow._make(found[:4])
            if found[4] is None:
                message = f"the source of key {source.key} belongs to no record"
            elif source_checksum(source.key, source.type, source.content) != source.checksum:
                message = f"the source of the record with key {source.key} does not match its checksum"
            else:
                continue
            yield RecordDamage(key=source.key, id=b"", message=message)


def _record_fault(row: RecordRow, spec: CollectionSpec, sequence: int) -> str:
    try:
        decode_record(row, None, spec.dimension)
    except (Corrupted, ValueError, KeyError, TypeError, AttributeError) as error:
        # What passes its checksum was written as it is, and still may be nothing that can be read.
        name = row.id.decode("utf-8", "replace")
        return error.message if isinstance(error, Corrupted) else f"record {name!r} cannot be read: {error!r:.100}"
    if not 1 <= row.key <= row.version <= sequence:
        name = row.id.decode("utf-8")
        return f"record {name!r} has key {row.key} and version {row.version}, the collection's sequence is {sequence}"
    return ""

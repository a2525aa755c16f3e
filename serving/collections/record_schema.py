"""The tables of one collection's database."""

from __future__ import annotations

from pathlib import Path

import apsw

from serving.collections.database import Schema, close_database, open_database, read_scalar, storage_errors
from serving.collections.types import CollectionSpec
from serving.errors import Corrupted

__all__ = ["RECORDS_SCHEMA", "adopt_records", "open_records", "read_sequence", "write_sequence"]

# A record's key is the sequence that wrote its vector: rows are appended in key order, and what an index built at some
# sequence lacks is one range of keys. Sources live apart, so that scanning vectors reads no text or images. All that a
# caller brought is a BLOB: a damaged byte is then a checksum's business, never a decoding error of the database.
RECORDS_SCHEMA = Schema(
    application_id=0x64695243,
    statements="""
        CREATE TABLE collection (
            only INTEGER PRIMARY KEY CHECK (only = 1),
            uid TEXT NOT NULL,
            space TEXT NOT NULL,
            dimension INTEGER NOT NULL,
            metric TEXT NOT NULL,
            sequence INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE records (
            key INTEGER PRIMARY KEY,
            id BLOB NOT NULL UNIQUE,
            version INTEGER NOT NULL,
            vector BLOB NOT NULL,
            metadata BLOB NOT NULL,
            fingerprint BLOB NOT NULL,
            checksum INTEGER NOT NULL
        ) STRICT;
        CREATE UNIQUE INDEX records_by_version ON records (version);
        CREATE TABLE sources (
            key INTEGER PRIMARY KEY,
            type BLOB NOT NULL,
            content BLOB NOT NULL,
            checksum INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE requests (
            number INTEGER PRIMARY KEY,
            request_id TEXT NOT NULL UNIQUE,
            digest BLOB NOT NULL,
            outcome TEXT NOT NULL
        ) STRICT;
    """,
    migrations=(
        # Version 2: records that expire, in microseconds since 1970.
        """
        ALTER TABLE records ADD COLUMN expire_us INTEGER;
        CREATE INDEX records_by_expiry ON records (expire_us) WHERE expire_us IS NOT NULL;
        """,
    ),
)


def open_records(
    path: Path, spec: CollectionSpec, uid: str, *, create: bool, max_bytes: int | None = None
) -> apsw.Connection:
    """Opens a collection's database for its writer, and makes sure it is that collection's.

    Args:
        path: Database file.
        spec: What the catalogue says the collection is.
        uid: What tells this collection from an earlier one of the same name.
        create: Whether it is new.
        max_bytes: Bound on the file.

    Returns:
        Connection for the writer.

    Raises:
        Corrupted: The file is missing, damaged, or belongs to another collection, space, dimension or metric.
        FailedPrecondition: It was written by a newer diptych.
    """
    connection = open_database(path, RECORDS_SCHEMA, create=create, max_bytes=max_bytes)
    expected = (uid, spec.space, spec.dimension, spec.metric.value)
    try:
        with storage_errors(f"collection {spec.name!r}", connection):
            if create:
                connection.execute("INSERT OR IGNORE INTO collection VALUES (1, ?, ?, ?, ?, 0)", expected)
            found = connection.execute("SELECT uid, space, dimension, metric FROM collection").fetchone()
        if found != expected:
            raise Corrupted(
                f"{path} is not the database of collection {spec.name!r}: it says {found}, "
                f"the catalogue says {expected}",
                collection=spec.name,
            )
    except BaseException:
        close_database(connection)
        raise
    return connection


def adopt_records(path: Path, spec: CollectionSpec, uid: str) -> None:
    """Makes a copied database the one of a new collection, durably.

    Args:
        path: Database file, of this version of the format or an older one.
        spec: The new collection; its space, dimension and metric are those of the copied one.
        uid: The new collection's.

    Raises:
        Corrupted: It is damaged, or of another space, dimension or metric.
        FailedPrecondition: It was written by a newer diptych.
        StorageFull: The disk has no room.
    """
    connection = open_database(path, RECORDS_SCHEMA, create=False)
    try:
        with storage_errors(f"collection {spec.name!r}", connection):
            connection.execute("UPDATE collection SET uid = ?", (uid,))
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        connection.close(True)
    open_records(path, spec, uid, create=False).close(True)


def read_sequence(connection: apsw.Connection) -> int:
    """Returns the sequence of the last committed write.

    Args:
        connection: To a collection's database.

    Returns:
        0 where nothing was written yet.
    """
    return read_scalar(connection, "SELECT sequence FROM collection")


def write_sequence(connection: apsw.Connection, sequence: int) -> None:
    """Stores the sequence that the open transaction has reached.

    Args:
        connection: The writer's, in a transaction.
        sequence: Number of the last write in it.
    """
    connection.execute("UPDATE collection SET sequence = ?", (sequence,))

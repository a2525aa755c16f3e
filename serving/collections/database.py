"""SQLite as diptych keeps it: durable commits, a versioned format, and failures in the words of the domain."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw

from serving.errors import Corrupted, FailedPrecondition, ServingError, StorageFull, Unavailable

__all__ = [
    "PAGE_BYTES",
    "Schema",
    "close_database",
    "disk_error",
    "open_database",
    "read_scalar",
    "storage_error",
    "storage_errors",
]

logger = logging.getLogger(__name__)

PAGE_BYTES = 16_384
"""Ten records of 384 dimensions a page; 4 KiB pages take 25 % more room and 40 % more time."""
_BUSY_MS = 5_000
_WAL_KEPT_BYTES = 64 << 20
_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FULL_RESULTS = frozenset({apsw.SQLITE_IOERR_SHMSIZE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """A kind of database and the version of its format."""

    application_id: int
    """SQLite's `application_id`: which kind of file this is."""
    statements: str
    """Creates the tables of version 1."""
    migrations: tuple[str, ...] = ()
    """The statements that lead from version 1 to 2, from 2 to 3, ...

    A new database goes through all of them, so that it equals a migrated one.
    """

    @property
    def version(self) -> int:
        """SQLite's `user_version`: raised with every change of the tables."""
        return 1 + len(self.migrations)

    def migrate(self, connection: apsw.Connection, version: int) -> None:
        """Brings the tables of an older version forward, inside a transaction of the caller's.

        Args:
            connection: To a database of that version.
            version: In [1, `version`].
        """
        for statements in self.migrations[version - 1 :]:
            connection.execute(statements)
        connection.execute(f"PRAGMA user_version={self.version}")


def open_database(path: Path, schema: Schema, *, create: bool, max_bytes: int | None = None) -> apsw.Connection:
    """Opens a database for reading and writing; one that an older diptych wrote is migrated, wholly or not at all.

    Args:
        path: Database file.
        schema: What it must be.
        create: Whether a missing or empty file becomes a new database; a lost one must not come back empty.
        max_bytes: Bound on the file; SQLite reports it as a full disk.

    Returns:
        Connection in WAL mode, with full synchronisation and without automatic checkpoints.

    Raises:
        FailedPrecondition: The file was written by a newer diptych.
        Corrupted: The file is missing, empty, or no such database.
    """
    if not create and not (path.exists() and path.stat().st_size):
        raise Corrupted(f"{path} is missing or empty; restore it from a backup", path=path)
    connection = apsw.Connection(str(path))
    try:
        with storage_errors(str(path), connection):
            _configure(connection, max_bytes)
            _check_or_create(connection, path, schema, create)
    except BaseException:
        close_database(connection)
        raise
    return connection


def close_database(connection: apsw.Connection) -> None:
    """Closes a database, whatever the disk says to that: its log keeps what the database could not take.

    Args:
        connection: Of any state; closing twice is harmless.
    """
    try:
        connection.close(True)
    except apsw.Error:
        logger.warning("database did not close cleanly", exc_info=True)


def _configure(connection: apsw.Connection, max_bytes: int | None) -> None:
    connection.set_busy_timeout(_BUSY_MS)
    connection.wal_autocheckpoint(0)
    # The page size holds only while the file is empty, so it precedes WAL.
    for pragma in (
        f"page_size={PAGE_BYTES}",
        "journal_mode=WAL",
        "synchronous=FULL",
        f"journal_size_limit={_WAL_KEPT_BYTES}",
        "cache_size=-32768",
        "temp_store=MEMORY",
        "trusted_schema=OFF",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    if max_bytes is not None:
        connection.execute(f"PRAGMA max_page_count={max(1, max_bytes // PAGE_BYTES)}").fetchall()


def _check_or_create(connection: apsw.Connection, path: Path, schema: Schema, create: bool) -> None:
    version = read_scalar(connection, "PRAGMA user_version")
    if create and version == 0 and read_scalar(connection, "SELECT count(*) FROM sqlite_schema") == 0:
        with connection:
            connection.execute(schema.statements)
            connection.execute(f"PRAGMA application_id={schema.application_id}")
            schema.migrate(connection, 1)
        return
    application_id = read_scalar(connection, "PRAGMA application_id")
    if application_id != schema.application_id:
        raise Corrupted(f"{path} is no database of diptych (application id {application_id:#x})", path=path)
    if version > schema.version:
        raise FailedPrecondition(
            f"{path} has data format {version}, this diptych reads up to {schema.version}; upgrade diptych",
            path=path,
            found_version=version,
            supported_version=schema.version,
        )
    if version < 1:
        raise Corrupted(f"{path} has no data format ({version}); restore it from a backup", path=path)
    if version < schema.version:
        with connection:
            schema.migrate(connection, version)
        logger.info("database migrated", extra={"path": str(path), "version": schema.version})


def read_scalar(connection: apsw.Connection, statement: str) -> int:
    """Returns the single integer a statement yields.

    Args:
        connection: Where to run it.
        statement: SQL that yields one row of one integer.

    Returns:
        That integer.
    """
    row = next(iter(connection.execute(statement)))
    value = row[0]
    assert isinstance(value, int)
    return value


@contextmanager
def storage_errors(where: str, connection: apsw.Connection | None = None) -> Iterator[None]:
    """Turns SQLite's exceptions inside the block into the domain's.

    Args:
        where: What was being read or written, for the message.
        connection: Asked for the system's error number where there is one.

    Yields:
        Nothing.
    """
    try:
        yield
    except apsw.Error as error:
        raise storage_error(error, where, connection) from error


def storage_error(error: apsw.Error, where: str, connection: apsw.Connection | None = None) -> ServingError:
    """Says in the words of the domain what SQLite reported.

    Args:
        error: SQLite's exception.
        where: What was being read or written.
        connection: Asked for the system's error number where there is one.

    Returns:
        `StorageFull`, `Corrupted` or `Unavailable`.
    """
    if _is_full(error, connection):
        return StorageFull(f"no room to write {where}; free disk space, then repeat the call", where=where)
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return Corrupted(f"the database of {where} is damaged; restore it from a backup", where=where)
    return Unavailable(
        f"storage of {where} does not answer ({type(error).__name__}); see the server's log", where=where
    )


def disk_error(error: OSError, where: str) -> ServingError:
    """Says in the words of the domain what the file system reported.

    Args:
        error: The system's exception.
        where: What was being read or written.

    Returns:
        `StorageFull` or `Unavailable`.
    """
    if error.errno in _FULL_ERRNOS:
        return StorageFull(f"no room to write {where}; free disk space, then repeat the call", where=where)
    return Unavailable(f"the disk refuses {where}: {error.strerror}", where=where)


def _is_full(error: apsw.Error, connection: apsw.Connection | None) -> bool:
    if isinstance(error, apsw.FullError):
        return True
    if not isinstance(error, apsw.IOError):
        return False
    known = connection is not None and connection.system_errno in _FULL_ERRNOS
    return known or getattr(error, "extendedresult", 0) in _FULL_RESULTS

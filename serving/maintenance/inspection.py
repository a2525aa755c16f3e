"""Looking into a database without changing it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from serving.collections.database import Schema, read_scalar
from serving.errors import Corrupted, FailedPrecondition

__all__ = ["inspected", "structural_faults"]

_MOST_FAULTS = 20


@contextmanager
def inspected(path: Path, schema: Schema) -> Iterator[apsw.Connection]:
    """Opens a database for looking; its write-ahead log is read, and left as it is.

    Args:
        path: Database file.
        schema: What it must be.

    Yields:
        A connection that cannot write.

    Raises:
        Corrupted: It is missing, or no such database.
        FailedPrecondition: It is of another version of the format.
    """
    if not path.exists() or not path.stat().st_size:
        raise Corrupted(f"{path} is missing or empty", path=path)
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.wal_autocheckpoint(0)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.execute("PRAGMA query_only=ON").fetchall()
        _check_kind(connection, path, schema)
        yield connection
    except apsw.Error as error:
        raise Corrupted(f"{path} cannot be read: {error}", path=path) from error
    finally:
        connection.close(True)


def structural_faults(connection: apsw.Connection) -> list[str]:
    """Returns what SQLite itself finds wrong with a database.

    Args:
        connection: To it.

    Returns:
        Its sentences, at most 20.
    """
    try:
        rows = connection.execute(f"PRAGMA integrity_check({_MOST_FAULTS})").fetchall()
    except apsw.Error as error:
        return [str(error)]
    lines = [line for (text,) in rows for line in str(text).splitlines()]
    return [] if lines == ["ok"] else lines


def _check_kind(connection: apsw.Connection, path: Path, schema: Schema) -> None:
    application_id = read_scalar(connection, "PRAGMA application_id")
    if application_id != schema.application_id:
        raise Corrupted(f"{path} is no database of diptych (application id {application_id:#x})", path=path)
    version = read_scalar(connection, "PRAGMA user_version")
    if version != schema.version:
        remedy = "start the server once, which migrates it" if version < schema.version else "upgrade diptych"
        raise FailedPrecondition(
            f"{path} has data format {version}, not {schema.version}, so that its contents were not checked; {remedy}",
            path=path,
        )

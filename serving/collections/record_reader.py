"""Reading records beside the writer: a few connections, each reading one committed state at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import apsw
import numpy as np
from numpy.typing import NDArray

from serving.collections.database import read_scalar, storage_errors
from serving.collections.record_codec import RecordRow, SourceRow, decode_record
from serving.collections.types import Record
from serving.errors import Draining

__all__ = ["RECORD_COLUMNS", "RecordReader"]

_IDLE_CONNECTIONS = 8
_BUSY_MS = 5_000
_COPY_STEPS = 20_000
"""Steps of SQLite's machine between two questions whether a copy shall stop."""
RECORD_COLUMNS = "r.key, r.id, r.version, r.vector, r.metadata, r.fingerprint, r.checksum, r.expire_us"
"""Of table `records AS r`, in the order of `RecordRow`."""
_BY_ID = f"SELECT {RECORD_COLUMNS} FROM carray(?) AS wanted CROSS JOIN records AS r ON r.id = wanted.value"
_BY_KEY = f"SELECT {RECORD_COLUMNS} FROM carray(?) AS wanted CROSS JOIN records AS r ON r.key = wanted.value"
_PAGE = (
    f"SELECT {RECORD_COLUMNS} FROM records AS r WHERE r.id > ? AND (r.expire_us IS NULL OR r.expire_us > ?) "
    "ORDER BY r.id LIMIT ?"
)
_IDS_AFTER = "SELECT id, key FROM records WHERE id > ? ORDER BY id LIMIT ?"
_WRITTEN_AFTER = f"SELECT {RECORD_COLUMNS} FROM records AS r WHERE r.version > ? ORDER BY r.key"
_AFTER = f"SELECT {RECORD_COLUMNS} FROM records AS r WHERE r.key > ? ORDER BY r.key LIMIT ?"
_SCAN = f"SELECT {RECORD_COLUMNS} FROM records AS r WHERE r.key > ? ORDER BY r.key"
# The index covers these: no vector is read.
_CHANGED = "SELECT key, version FROM records INDEXED BY records_by_version WHERE version > ?"
_KEYS = "SELECT key FROM records INDEXED BY records_by_version"
_COUNT = "SELECT count(*) FROM records"
_EXPIRING = (
    "SELECT expire_us, key FROM records INDEXED BY records_by_expiry WHERE expire_us IS NOT NULL ORDER BY expire_us"
)
_SOURCES = (
    "SELECT s.key, s.type, s.content, s.checksum "
    "FROM carray(?) AS wanted CROSS JOIN sources AS s ON s.key = wanted.value"
)


class RecordReader:
    """Reads one collection's database from any thread.

    Args:
        path: Database file, which the writer has opened.
        dimension: Width of its vectors.
        with_sources: Whether the collection retains sources.
        name: The collection's name, for messages.
    """

    def __init__(self, path: Path, *, dimension: int, with_sources: bool, name: str) -> None:
        self._path = path
        self._dimension = dimension
        self._with_sources = with_sources
        self._name = name
        self._idle: deque[apsw.Connection] = deque()
        self._closed = False

    def by_ids(self, ids: Sequence[bytes], *, now_us: int) -> dict[bytes, Record]:
        """Returns records by id.

        Args:
            ids: Encoded ids.
            now_us: Leaves out what has expired by then, in microseconds since 1970.

        Returns:
            Those that exist.

        Raises:
            Corrupted: One of them is not what was written.
        """
        if not ids:
            return {}
        with self.snapshot() as connection:
            found = _rows(connection, _BY_ID, (apsw.carray(tuple(ids)),))
            rows = [row for row in found if row.expire_us is None or row.expire_us > now_us]
            return {row.id: record for row, record in zip(rows, self._decode(connection, rows), strict=True)}

    def by_keys(self, keys: Sequence[int]) -> dict[int, Record]:
        """Returns records by the key of their vector.

        Args:
            keys: Sequences that wrote them.

        Returns:
            Those whose vector still stands.

        Raises:
            Corrupted: One of them is not what was written.
        """
        if not keys:
            return {}
        with self.snapshot() as connection:
            rows = _rows(connection, _BY_KEY, (apsw.carray(np.asarray(keys, dtype=np.int64)),))
            return {row.key: record for row, record in zip(rows, self._decode(connection, rows), strict=True)}

    def page(self, after_id: bytes, size: int, *, now_us: int) -> list[Record]:
        """Returns the records that follow an id.

        Args:
            after_id: Encoded; empty: from the beginning.
            size: Most records to return.
            now_us: Leaves out what has expired by then, in microseconds since 1970.

        Returns:
            In the bytewise order of their ids.

        Raises:
            Corrupted: One of them is not what was written.
        """
        with self.snapshot() as connection:
            return self._decode(connection, _rows(connection, _PAGE, (after_id, now_us, size)))

    def rows_after(self, key: int, size: int) -> list[RecordRow]:
        """Returns the rows that follow a key, in the order their vectors were written.

        Args:
            key: Leaves out the rows up to this key.
            size: Most rows to return.

        Returns:
            Rows as stored, unchecked.
        """
        with self.snapshot() as connection:
            return _rows(connection, _AFTER, (key, size))

    def scan(self, connection: apsw.Connection, *, after_key: int) -> Iterator[RecordRow]:
        """Yields rows in the order their vectors were written.

        Args:
            connection: From `snapshot`.
            after_key: Leaves out the rows up to this key.

        Yields:
            Rows as stored, unchecked.
        """
        for row in cast("Iterable[Sequence[bytes]]", connection.execute(_SCAN, (after_key,))):
            yield RecordRow._make(row)

    def written_after(self, connection: apsw.Connection, sequence: int) -> Iterator[RecordRow]:
        """Yields the rows that were written after a sequence, in the order of their keys.

        Args:
            connection: From `snapshot`.
            sequence: Leaves out what stands as of it.

        Yields:
            Rows as stored, unchecked.
        """
        yield from _rows(connection, _WRITTEN_AFTER, (sequence,))

    def ids_after(self, connection: apsw.Connection, after_id: bytes, count: int) -> list[tuple[bytes, int]]:
        """Returns the ids that follow one, with their keys, without reading the records.

        Args:
            connection: From `snapshot`.
            after_id: Encoded; empty: from the beginning.
            count: Most to return.

        Returns:
            In the bytewise order of the ids.
        """
        return cast("list[tuple[bytes, int]]", connection.execute(_IDS_AFTER, (after_id, count)).fetchall())

    def changed_since(self, connection: apsw.Connection, sequence: int) -> NDArray[np.int64]:
        """Returns the key and version of every record written after a sequence, without reading the records.

        Args:
            connection: From `snapshot`.
            sequence: Leaves out what was written up to here.

        Returns:
            `[n, 2]`, keys ascending.
        """
        pairs = np.array(connection.execute(_CHANGED, (sequence,)).fetchall(), dtype=np.int64).reshape(-1, 2)
        return pairs[np.argsort(pairs[:, 0])]

    def keys(self, connection: apsw.Connection) -> NDArray[np.int64]:
        """Returns the key of every record, without reading the records.

        Args:
            connection: From `snapshot`.

        Returns:
            `[n]`, ascending.
        """
        found = cast("Iterable[tuple[int]]", connection.execute(_KEYS))
        return np.sort(np.fromiter((key for (key,) in found), dtype=np.int64))

    def count(self, connection: apsw.Connection) -> int:
        """Returns how many records there are, without reading them.

        Args:
            connection: From `snapshot`.

        Returns:
            Their number.
        """
        return read_scalar(connection, _COUNT)

    def expiring(self) -> NDArray[np.int64]:
        """Returns when records expire, without reading the records.

        Returns:
            `[n, 2]`, expire time in microseconds since 1970 and key of each record that has one, ascending.
        """
        with self.snapshot() as connection:
            return np.array(connection.execute(_EXPIRING).fetchall(), dtype=np.int64).reshape(-1, 2)

    @contextmanager
    def snapshot(self) -> Iterator[apsw.Connection]:
        """Lends a connection inside which all reads see one committed state.

        Yields:
            A connection in a read transaction.

        Raises:
            Draining: The collection is closed.
        """
        if self._closed:
            raise Draining(f"collection {self._name!r} is closed", collection=self._name)
        with storage_errors(f"collection {self._name!r}"):
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._open()
            try:
                connection.execute("BEGIN")
                yield connection
            except BaseException:
                # A statement cut short keeps its old snapshot open, and the next reader would see the past.
                connection.close(True)
                raise
            self._give_back(connection)

    def copy_to(self, target: Path, *, cancelled: Callable[[], bool]) -> None:
        """Copies the database, compacted, as of one committed state; writes go on.

        Args:
            target: File to make; nothing may be there. It is not synchronised yet.
            cancelled: Asked every few milliseconds; the copy then ends early, and is unusable.

        Raises:
            Corrupted: The database is damaged.
            StorageFull: The disk has no room.
            Draining: The collection is closed.
        """
        if self._closed:
            raise Draining(f"collection {self._name!r} is closed", collection=self._name)
        connection = self._open()
        try:
            # The statement writes another file than the database, which this would forbid all the same.
            connection.execute("PRAGMA query_only=OFF").fetchall()
            connection.set_progress_handler(cancelled, _COPY_STEPS)
            with storage_errors(f"a copy of collection {self._name!r}", connection), suppress(apsw.InterruptError):
                connection.execute("VACUUM INTO ?", (str(target),))
        finally:
            connection.close(True)

    def close(self) -> None:
        """Closes idle connections now and lent ones when they come back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _open(self) -> apsw.Connection:
        connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_timeout(_BUSY_MS)
        connection.wal_autocheckpoint(0)
        # Only the writer checkpoints, also when it goes first.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.execute("PRAGMA query_only=ON").fetchall()
        return connection

    def _give_back(self, connection: apsw.Connection) -> None:
        connection.execute("ROLLBACK")
        if self._closed or len(self._idle) >= _IDLE_CONNECTIONS:
            connection.close(True)
            return
        self._idle.append(connection)

    def _decode(self, connection: apsw.Connection, rows: Sequence[RecordRow]) -> list[Record]:
        sources: dict[int, SourceRow] = {}
        if self._with_sources and rows:
            keys = np.asarray([row.key for row in rows], dtype=np.int64)
            found = cast("Iterable[Sequence[bytes]]", connection.execute(_SOURCES, (apsw.carray(keys),)))
            sources = {source.key: source for source in map(SourceRow._make, found)}
        return [decode_record(row, sources.get(row.key), self._dimension) for row in rows]


def _rows(connection: apsw.Connection, statement: str, bindings: tuple[apsw.Binding, ...]) -> list[RecordRow]:
    found = cast("Iterable[Sequence[bytes]]", connection.execute(statement, bindings))
    return [RecordRow._make(row) for row in found]

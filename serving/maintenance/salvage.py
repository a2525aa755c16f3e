"""Reads what can be read of a damaged database, and names what cannot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import apsw

from serving.collections.definition import Definition
from serving.collections.record_codec import RecordRow, SourceRow, decode_record, source_checksum
from serving.collections.record_reader import RECORD_COLUMNS
from serving.collections.record_schema import RECORDS_SCHEMA
from serving.errors import Corrupted
from serving.maintenance.inspection import inspected

__all__ = ["DamagedRecord", "Salvage", "salvaging"]


_KEY_SOURCES = (
    ("NOT INDEXED", "x''", "key"),
    ("INDEXED BY records_by_version", "x''", "version"),
    ("INDEXED BY sqlite_autoindex_records_1", "id", "id"),
)
"""Where keys are found: hint, column that has the id, order in which it is gone through."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DamagedRecord:
    """What cannot be taken over as it was."""

    key: int
    id: str
    """As far as it is known."""
    problem: str
    row: RecordRow | None = None
    """What is left of it."""
    source: SourceRow | None = None


@dataclass(slots=True)
class Salvage:
    """Goes through a database record by record; a page that cannot be read loses what lies on it, and nothing else."""

    connection: apsw.Connection
    definition: Definition
    damaged: list[DamagedRecord] = field(default_factory=list)
    """Filled while `records` is gone through."""
    sequence: int = 0
    """The highest number that was seen; as the collection says, where that can be read."""

    def records(self) -> Iterator[tuple[RecordRow, SourceRow | None]]:
        """Yields what is as it was written, by rising key.

        Yields:
            Each record, with its source where there is one.
        """
        self.sequence = self._stored_sequence()
        known = self._keys()
        newest = self._newest_of_each_id(known)
        for key in sorted(known):
            row = self._row(key)
            problem = "the page it lies on cannot be read" if row is None else self._fault(row, newest)
            if row is None or problem:
                self._note(key, known[key], problem, row)
                continue
            self.sequence = max(self.sequence, row.version)
            yield row, self._source(row)

    def requests(self) -> list[Sequence[Any]]:
        """Returns the outcomes of requests that are remembered, as far as they can be read."""
        rows: list[Sequence[Any]] = []
        with suppress(apsw.Error):
            rows += self.connection.execute("SELECT number, request_id, digest, outcome FROM requests ORDER BY number")
        return rows

    def _keys(self) -> dict[int, bytes]:
        """Returns every key that table or index know, with the id where the index has it."""
        found: dict[int, bytes] = {}
        is_complete = False
        for source, column, order in _KEY_SOURCES:
            # From both ends: what lies behind a page that cannot be read is reached from the other side.
            for direction in ("ASC", "DESC"):
                statement = f"SELECT key, {column} FROM records {source} ORDER BY {order} {direction}"
                with suppress(apsw.Error):
                    for key, identifier in cast("Iterable[tuple[int, bytes]]", self.connection.execute(statement)):
                        found[key] = identifier or found.get(key, b"")
                    is_complete = True
        if not is_complete:
            problem = "some records lie on pages that cannot be read, and no index says which they are"
            self._note(0, b"", problem, None)
        return found

    def _newest_of_each_id(self, keys: Iterable[int]) -> dict[bytes, int]:
        newest: dict[bytes, tuple[int, int]] = {}
        for key in keys:
            row = self._row(key)
            if row is not None and not self._checksum_fault(row):
                newest[row.id] = max(newest.get(row.id, (0, 0)), (row.version, key))
        return {identifier: key for identifier, (_, key) in newest.items()}

    def _row(self, key: int) -> RecordRow | None:
        with suppress(apsw.Error):
            found = self.connection.execute(f"SELECT {RECORD_COLUMNS} FROM records AS r WHERE r.key = ?", (key,))
            row = found.fetchone()
            return None if row is None else RecordRow._make(cast("Sequence[Any]", row))
        return None

    def _source(self, row: RecordRow) -> SourceRow | None:
        with suppress(apsw.Error):
            found = self.connection.execute(
                "SELECT key, type, content, checksum FROM sources WHERE key = ?", (row.key,)
            )
            stored = found.fetchone()
            if stored is None:
                return None
            source = SourceRow._make(cast("Sequence[Any]", stored))
            if source_checksum(source.key, source.type, source.content) == source.checksum:
                return source
            self._note(row.key, row.id, "its source does not match its checksum; the record itself stays", None, source)
            return None
        self._note(row.key, row.id, "its source cannot be read; the record itself stays", None)
        return None

    def _fault(self, row: RecordRow, newest: dict[bytes, int]) -> str:
        problem = self._checksum_fault(row)
        if not problem and newest[row.id] != row.key:
            return "a newer record has its id"
        return problem

    def _checksum_fault(self, row: RecordRow) -> str:
        try:
            decode_record(row, None, self.definition.spec.dimension)
        except (Corrupted, ValueError, KeyError, TypeError, AttributeError):
            return "it does not match its checksum"
        return ""

    def _note(
        self, key: int, identifier: bytes, problem: str, row: RecordRow | None, source: SourceRow | None = None
    ) -> None:
        name = (identifier or (row.id if row else b"")).decode("utf-8", "replace")
        self.damaged.append(DamagedRecord(key=key, id=name, problem=problem, row=row, source=source))

    def _stored_sequence(self) -> int:
        with suppress(apsw.Error):
            row = self.connection.execute("SELECT sequence FROM collection").fetchone()
            if row is not None and isinstance(row[0], int):
                return row[0]
        return 0


@contextmanager
def salvaging(path: Path, definition: Definition) -> Iterator[Salvage]:
    """Opens a database that may be damaged, for looking.

    Args:
        path: Database file.
        definition: The collection.

    Yields:
        What reads it.

    Raises:
        Corrupted: Not even its first page can be read, or it is another collection's.
        FailedPrecondition: It is of another version of the format.
    """
    with inspected(path, RECORDS_SCHEMA) as connection:
        yield Salvage(connection, definition)

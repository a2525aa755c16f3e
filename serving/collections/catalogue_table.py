"""The catalogue's own small database: which collections there are, and which are half made or half gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import cast

import apsw

from serving.collections.database import Schema, close_database, open_database, storage_errors
from serving.collections.definition import Definition, spec_from_json, spec_to_json

__all__ = ["CATALOGUE_SCHEMA", "CatalogueTable", "Entry", "State", "read_entries"]

# The folder is made and removed between two commits here, so that a crash leaves a row that says what was going on.
CATALOGUE_SCHEMA = Schema(
    application_id=0x64694341,
    statements="""
        CREATE TABLE collections (
            uid TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('creating', 'active', 'deleting')),
            spec TEXT NOT NULL,
            create_time_us INTEGER NOT NULL,
            update_time_us INTEGER NOT NULL
        ) STRICT;
        CREATE UNIQUE INDEX collections_by_name ON collections (name) WHERE state = 'active';
    """,
    migrations=(
        # The tables stay as they are; a diptych that cannot read such definitions shall say so.
        "-- Version 2: definitions hold fields, and an index in detail.",
    ),
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class State(StrEnum):
    """How far a collection has come."""

    CREATING = "creating"
    ACTIVE = "active"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the catalogue."""

    definition: Definition
    state: State


class CatalogueTable:
    """Reads and writes the catalogue's rows, each call durable when it returns; for one thread at a time.

    Args:
        path: Database file; created where missing.

    Raises:
        FailedPrecondition: A newer diptych wrote it.
        Corrupted: It is no catalogue.
    """

    def __init__(self, path: Path) -> None:
        self._connection = open_database(path, CATALOGUE_SCHEMA, create=True)

    def entries(self) -> list[Entry]:
        """Returns all rows, by name."""
        return read_entries(self._connection)

    def add(self, definition: Definition) -> None:
        """Adds a collection that is being created.

        Args:
            definition: Of a new uid.
        """
        self._change(
            "INSERT INTO collections (uid, name, state, spec, create_time_us, update_time_us) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            definition.uid,
            definition.spec.name,
            State.CREATING.value,
            spec_to_json(definition.spec),
            (definition.create_time - _EPOCH) // _MICROSECOND,
            (definition.update_time - _EPOCH) // _MICROSECOND,
        )

    def redefine(self, definition: Definition) -> None:
        """Replaces a collection's definition.

        Args:
            definition: Of a known uid.
        """
        self._change(
            "UPDATE collections SET spec = ?, update_time_us = ? WHERE uid = ?",
            spec_to_json(definition.spec),
            (definition.update_time - _EPOCH) // _MICROSECOND,
            definition.uid,
        )

    def set_state(self, uid: str, state: State) -> None:
        """Notes how far a collection has come.

        Args:
            uid: Of the collection.
            state: Where it stands now.
        """
        self._change("UPDATE collections SET state = ? WHERE uid = ?", state.value, uid)

    def remove(self, uid: str) -> None:
        """Forgets a collection whose folder is gone.

        Args:
            uid: Of the collection.
        """
        self._change("DELETE FROM collections WHERE uid = ?", uid)

    def close(self) -> None:
        """Folds the log into the database and closes it; closing twice is harmless."""
        close_database(self._connection)

    def _change(self, statement: str, *values: apsw.SQLiteValue) -> None:
        with storage_errors("the catalogue", self._connection):
            self._connection.execute(statement, values)


def read_entries(connection: apsw.Connection) -> list[Entry]:
    """Reads all rows.

    Args:
        connection: To a catalogue.

    Returns:
        By name.

    Raises:
        Corrupted: The database is damaged.
    """
    statement = "SELECT uid, state, spec, create_time_us, update_time_us FROM collections ORDER BY name, uid"
    with storage_errors("the catalogue", connection):
        rows = cast("Sequence[tuple[str, str, str, int, int]]", connection.execute(statement).fetchall())
    return [
        Entry(
            Definition(
                spec=spec_from_json(spec),
                uid=uid,
                create_time=_EPOCH + create_time_us * _MICROSECOND,
                update_time=_EPOCH + update_time_us * _MICROSECOND,
            ),
            State(state),
        )
        for uid, state, spec, create_time_us, update_time_us in rows
    ]

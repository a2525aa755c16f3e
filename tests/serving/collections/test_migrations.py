"""What an older diptych wrote opens: each migration is applied once, wholly or not at all."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from serving.collections.database import Schema, open_database, read_scalar
from serving.errors import Corrupted, FailedPrecondition, ServingError

FIRST = Schema(application_id=77, statements="CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")
THIRD = Schema(
    application_id=77,
    statements=FIRST.statements,
    migrations=(
        "ALTER TABLE notes ADD COLUMN size INTEGER; UPDATE notes SET size = length(text);",
        "ALTER TABLE notes ADD COLUMN kind TEXT;",
    ),
)


def make(path: Path, schema: Schema = FIRST) -> None:
    connection = open_database(path, schema, create=True)
    connection.execute("INSERT INTO notes (text) VALUES ('one'), ('three')")
    connection.close()


def columns(connection: apsw.Connection) -> list[str]:
    return [str(row[1]) for row in connection.execute("PRAGMA table_info(notes)")]


def test_an_older_database_is_brought_forward_through_every_version(tmp_path: Path) -> None:
    make(tmp_path / "db")
    migrated = open_database(tmp_path / "db", THIRD, create=False)
    assert columns(migrated) == ["id", "text", "size", "kind"]
    assert migrated.execute("SELECT text, size, kind FROM notes").fetchall() == [("one", 3, None), ("three", 5, None)]
    assert read_scalar(migrated, "PRAGMA user_version") == 3
    migrated.close()
    open_database(tmp_path / "db", THIRD, create=False).close()
    with pytest.raises(FailedPrecondition, match="format 3, this diptych reads up to 1; upgrade"):
        open_database(tmp_path / "db", FIRST, create=False)


def test_a_new_database_is_the_same_as_a_migrated_one(tmp_path: Path) -> None:
    fresh = open_database(tmp_path / "fresh", THIRD, create=True)
    assert columns(fresh) == ["id", "text", "size", "kind"]
    assert read_scalar(fresh, "PRAGMA user_version") == 3
    fresh.close()


def test_a_migration_that_fails_leaves_the_old_version(tmp_path: Path) -> None:
    make(tmp_path / "db")
    broken = Schema(application_id=77, statements="", migrations=(THIRD.migrations[0], "UPDATE nothing SET x = 1"))
    with pytest.raises(ServingError):
        open_database(tmp_path / "db", broken, create=False)
    old = open_database(tmp_path / "db", FIRST, create=False)
    assert columns(old) == ["id", "text"]
    old.close()


def test_a_database_without_a_version_is_none_of_ours(tmp_path: Path) -> None:
    make(tmp_path / "db")
    connection = apsw.Connection(str(tmp_path / "db"))
    connection.execute("PRAGMA user_version=0")
    connection.close()
    with pytest.raises(Corrupted, match="has no data format"):
        open_database(tmp_path / "db", FIRST, create=False)

"""Makes a collection's database anew from what can be read of the old one."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import apsw

from serving.collections.collection import RECORDS_FILE
from serving.collections.database import storage_errors
from serving.collections.definition import Definition
from serving.collections.definition_file import write_definition
from serving.collections.durable import publish_folder, sync_path
from serving.collections.record_audit import audit_records
from serving.collections.record_codec import RecordRow
from serving.collections.record_schema import open_records, write_sequence
from serving.maintenance.salvage import DamagedRecord, Salvage, salvaging

__all__ = ["DRAFT_PREFIX", "REPAIRED_SUFFIX", "WouldLoseError", "named", "rebuild_records"]

DRAFT_PREFIX = ".repair-"
REPAIRED_SUFFIX = ".repaired"
_BATCH_ROWS = 1_000
_NAMED = 20


class WouldLoseError(Exception):
    """Rebuilding would take out records or sources."""


def rebuild_records(
    folder: Path, definition: Definition, *, drop_damaged: bool, quarantine: Path
) -> list[DamagedRecord]:
    """Puts a rebuilt folder in a collection's place; the old one goes to the quarantine.

    Args:
        folder: The collection's.
        definition: The collection.
        drop_damaged: Whether what is damaged may be left out; it is written to the quarantine.
        quarantine: Made where something is put into it.

    Returns:
        What was left out.

    Raises:
        WouldLoseError: Something is damaged, and may not be left out.
        Corrupted: Not even the first page of the database can be read.
        StorageFull: The disk has no room for the rebuilt one.
        OSError: The disk refuses something.
    """
    draft = folder.with_name(f"{DRAFT_PREFIX}{folder.name}")
    rebuilt = folder.with_name(f"{folder.name}{REPAIRED_SUFFIX}")
    draft.mkdir()
    try:
        with salvaging(folder / RECORDS_FILE, definition) as salvage:
            _copy(salvage, draft / RECORDS_FILE, definition)
        damaged = salvage.damaged
        if damaged and not drop_damaged:
            raise WouldLoseError(f"{len(damaged)} damaged would be taken out: {named(damaged)}")
        audit_records(draft / RECORDS_FILE, definition.spec, definition.uid)
        write_definition(draft, definition)
        quarantine.mkdir(parents=True, exist_ok=True)
        if damaged:
            _write_damaged(quarantine / f"{definition.folder_name}.jsonl", damaged)
        publish_folder(draft, rebuilt)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    # From here on the rebuilt one is durable; stopped between the two, the next repair ends it.
    folder.rename(quarantine / folder.name)
    rebuilt.rename(folder)
    sync_path(folder.parent)
    sync_path(quarantine)
    return damaged


def _copy(salvage: Salvage, path: Path, definition: Definition) -> None:
    connection = open_records(path, definition.spec, definition.uid, create=True)
    try:
        with storage_errors(f"the rebuilt database of collection {definition.spec.name!r}", connection):
            good = salvage.records()
            while batch := list(islice(good, _BATCH_ROWS)):
                with connection:
                    _insert(connection, "records", [row for row, _ in batch])
                    _insert(connection, "sources", [source for _, source in batch if source is not None])
            with connection:
                _insert(connection, "requests", salvage.requests())
                write_sequence(connection, salvage.sequence)
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        connection.close(True)


def _insert(connection: apsw.Connection, table: str, rows: Sequence[Sequence[Any]]) -> None:
    if rows:
        columns = RecordRow._fields if table == "records" else ()
        named = f" ({', '.join(columns)})" if columns else ""
        places = ", ".join("?" * len(rows[0]))
        connection.executemany(f"INSERT INTO {table}{named} VALUES ({places})", rows)


def named(damaged: Sequence[DamagedRecord]) -> str:
    """Returns a list for people.

    Args:
        damaged: What is damaged.

    Returns:
        The first 20 with their reasons, and how many more there are.
    """
    first = ", ".join(f"{one.id!r} ({one.problem})" for one in damaged[:_NAMED])
    return f"{first} and {len(damaged) - _NAMED} more" if len(damaged) > _NAMED else first


def _write_damaged(path: Path, damaged: Sequence[DamagedRecord]) -> None:
    """Writes what is left of each as an object a line; bytes are base64."""
    with path.open("w", encoding="utf-8") as file:
        for one in damaged:
            fields: dict[str, Any] = {"id": one.id, "key": one.key, "problem": one.problem}
            for prefix, row in (("", one.row), ("source_", one.source)):
                for name, value in row._asdict().items() if row is not None else ():
                    fields.setdefault(prefix + name, _plain(value))
            file.write(json.dumps(fields) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _plain(value: object) -> object:
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value

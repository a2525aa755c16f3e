"""Verifies one collection: its database, every record and source, and its index against them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import apsw

from serving.collections.collection import INDEX_FOLDER, RECORDS_FILE
from serving.collections.database import read_scalar
from serving.collections.definition import Definition
from serving.collections.definition_file import DEFINITION_FILE, read_definition
from serving.collections.record_audit import damaged_rows, damaged_sources
from serving.collections.record_reader import RecordReader
from serving.collections.record_schema import RECORDS_SCHEMA
from serving.errors import FailedPrecondition, ServingError
from serving.maintenance.check_index import check_index
from serving.maintenance.findings import CheckReport, Finding, Severity, Tick
from serving.maintenance.inspection import inspected, structural_faults
from serving.maintenance.write_ahead_log import log_fault

__all__ = ["check_collection"]

_REMEDIES = {
    "collection": "run `diptych repair` on the folder, or restore a snapshot",
    "record": "write the record anew, or `diptych repair --drop-damaged`",
    "source": "write the record anew, or `diptych repair --drop-damaged`",
    "definition": "the next start writes what the catalogue says; if the file is right, restore a snapshot",
    "log": "compare with what was acknowledged; restore a snapshot, or write again what is lost",
    "index": "run `diptych repair` on the folder; the next start builds it anew too",
}
_MOST_DUPLICATES = 20


class _Collection:
    """What is found of one collection."""

    def __init__(self, definition: Definition, report: CheckReport) -> None:
        self.name = definition.spec.name
        self._uid = definition.uid
        self._report = report

    def add(self, part: str, problem: str, severity: Severity = Severity.DAMAGE) -> None:
        remedy = _REMEDIES[part] if severity is not Severity.NOTE else ""
        self._report.findings.append(
            Finding(severity=severity, part=part, subject=self.name, problem=problem, remedy=remedy, uid=self._uid)
        )


def check_collection(
    parent: Path, definition: Definition, places: Mapping[str, Path], report: CheckReport, tick: Tick
) -> None:
    """Adds what is found of a collection to a report.

    Args:
        parent: Holds the collections' folders.
        definition: The collection.
        places: By uid, the folder whose database says that uid.
        report: Takes the findings.
        tick: Hears how far it is.
    """
    found = _Collection(definition, report)
    folder = parent / definition.folder_name
    elsewhere = places.get(definition.uid, folder)
    if elsewhere != folder:
        found.add("collection", f"its database lies in {elsewhere.name}, not in {folder.name}")
        return
    if not folder.is_dir():
        found.add("collection", f"its folder {folder.name} is missing")
        return
    fault = log_fault(folder / f"{RECORDS_FILE}-wal")
    if fault:
        found.add("log", fault)
    try:
        with inspected(folder / RECORDS_FILE, RECORDS_SCHEMA) as connection:
            faults = structural_faults(connection)
            for fault in faults:
                found.add("collection", f"its database: {fault}")
            if not _is_its_own(connection, definition, found):
                return
    except FailedPrecondition as error:
        found.add("collection", error.message, Severity.NOTE)
        return
    except ServingError as error:
        found.add("collection", error.message)
        return
    _check_definition(folder, definition, found)
    _check_contents(folder, definition, found, report, tick)


def _is_its_own(connection: apsw.Connection, definition: Definition, found: _Collection) -> bool:
    spec = definition.spec
    expected = (definition.uid, spec.space, spec.dimension, spec.metric.value)
    row = connection.execute("SELECT uid, space, dimension, metric FROM collection").fetchone()
    if row != expected:
        found.add("collection", f"its database says {row}, the catalogue says {expected}")
    return row == expected


def _check_definition(folder: Path, definition: Definition, found: _Collection) -> None:
    # Folders of before have no copy; the next start makes it.
    if not (folder / DEFINITION_FILE).exists():
        return
    try:
        copy = read_definition(folder)
    except ServingError as error:
        found.add("definition", error.message, Severity.DERIVED)
        return
    if copy == definition:
        return
    if replace(copy.spec, display_name="") == replace(definition.spec, display_name="") and copy.uid == definition.uid:
        problem = f"its {DEFINITION_FILE} has another display name than the catalogue; the next start writes it anew"
        found.add("collection", problem, Severity.NOTE)
    else:
        found.add("definition", f"its {DEFINITION_FILE} says {copy.spec}, the catalogue says {definition.spec}")


def _check_contents(folder: Path, definition: Definition, found: _Collection, report: CheckReport, tick: Tick) -> None:
    spec = definition.spec
    reader = RecordReader(
        folder / RECORDS_FILE, dimension=spec.dimension, with_sources=spec.retain_source, name=spec.name
    )
    title = f"collection {spec.name}"
    try:
        with reader.snapshot() as connection:
            report.record_count += read_scalar(connection, "SELECT count(*) FROM records")
            for damage in damaged_rows(reader, connection, spec, tick=lambda share: tick(title, share)):
                found.add("record", damage.message)
            for damage in damaged_sources(connection, tick=lambda share: tick(f"{title}: sources", share)):
                found.add("source", damage.message)
            for problem in _duplicates(connection):
                found.add("collection", problem)
            for problem in check_index(folder / INDEX_FOLDER, definition, reader, connection, tick):
                found.add("index", problem, Severity.DERIVED)
    except ServingError as error:
        # Structure was checked before, row by row it may still fail: the rest of the collection cannot be read.
        found.add("collection", error.message)
    finally:
        reader.close()


def _duplicates(connection: apsw.Connection) -> Iterator[str]:
    # Without the index, which may be what is wrong.
    for column in ("id", "version"):
        rows = connection.execute(
            f"SELECT {column}, count(*) FROM records NOT INDEXED GROUP BY {column} HAVING count(*) > 1 "
            f"LIMIT {_MOST_DUPLICATES}"
        )
        for value, count in cast("list[Sequence[Any]]", rows.fetchall()):
            shown = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            yield f"{count} records have the {column} {shown!r}"

"""Mends a data folder: what is derived is made anew, what is damaged is taken out where that is allowed, all is named.

Nothing is changed in place. What is mended is built aside and synchronised before it takes the old one's place, and the
old one is kept under `quarantine/`.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from serving.collections.catalogue import CATALOGUE_FILE, COLLECTIONS_FOLDER, CollectionCatalogue
from serving.collections.catalogue_table import CATALOGUE_SCHEMA, CatalogueTable, Entry, State, read_entries
from serving.collections.collection import INDEX_FOLDER, RECORDS_FILE
from serving.collections.config import CollectionsConfig
from serving.collections.definition import Definition
from serving.collections.definition_file import read_definition
from serving.collections.durable import sync_path
from serving.errors import Corrupted, ServingError
from serving.jobs.runner import JOBS_FILE
from serving.maintenance.check import QUARANTINE_FOLDER, check_locked
from serving.maintenance.findings import CheckReport, Finding, Severity, Tick
from serving.maintenance.folders import folder_uids, locked_folder
from serving.maintenance.inspection import inspected, structural_faults
from serving.maintenance.rebuild_records import DRAFT_PREFIX, REPAIRED_SUFFIX, WouldLoseError, named, rebuild_records
from serving.snapshots.store import SNAPSHOTS_FOLDER

__all__ = ["RepairReport", "repair_folder"]

_SETTLE_S = 24 * 3600.0


@dataclass(slots=True)
class RepairReport:
    """What was done, and what is left."""

    actions: list[str] = field(default_factory=list)
    """One sentence each."""
    refusals: list[str] = field(default_factory=list)
    """What could be done only by taking something out, which was not allowed, or not at all."""
    after: CheckReport = field(default_factory=CheckReport)
    """A check after all that."""


def repair_folder(data_dir: Path, *, drop_damaged: bool, tick: Tick) -> RepairReport:
    """Mends a data folder that no server has.

    Args:
        data_dir: The data folder.
        drop_damaged: Whether records, sources and snapshots that are damaged may be taken out; they are kept under
            `quarantine/`, and named.
        tick: Hears what is being done.

    Returns:
        What was done, and what is left.

    Raises:
        InvalidInput: It is no data folder.
        FailedPrecondition: A server holds it.
        OSError: The disk refuses something.
    """
    report = RepairReport()
    with locked_folder(data_dir):
        repair = _Repair(data_dir, report, drop_damaged=drop_damaged, tick=tick)
        repair.finish_what_was_begun()
        repair.catalogue()
        repair.places()
        found = check_locked(data_dir, tick=tick)
        repair.others(found)
        repair.databases(found)
        repair.indexes(found)
    _open_and_build(data_dir, report, tick)
    with locked_folder(data_dir):
        report.after = check_locked(data_dir, tick=tick)
    return report


class _Repair:
    def __init__(self, data_dir: Path, report: RepairReport, *, drop_damaged: bool, tick: Tick) -> None:
        self._data_dir = data_dir
        self._parent = data_dir / COLLECTIONS_FOLDER
        self._report = report
        self._drop_damaged = drop_damaged
        self._tick = tick
        # Made only where something is put into it.
        self._quarantine = data_dir / QUARANTINE_FOLDER / f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"

    def finish_what_was_begun(self) -> None:
        """Puts collections in their place that a repair before had rebuilt when it was stopped."""
        self._parent.mkdir(exist_ok=True)
        for draft in self._parent.glob(f"{DRAFT_PREFIX}*"):
            shutil.rmtree(draft)
        for rebuilt in self._parent.glob(f"*{REPAIRED_SUFFIX}"):
            place = self._parent / rebuilt.name.removesuffix(REPAIRED_SUFFIX)
            if place.exists():
                shutil.rmtree(rebuilt)
            else:
                rebuilt.rename(place)
                self._did(f"collection folder {place.name}: put into its place what an earlier repair had rebuilt")
        sync_path(self._parent)

    def catalogue(self) -> None:
        """Makes a damaged catalogue anew from its rows, or from the collections' own folders where it has none."""
        path = self._data_dir / CATALOGUE_FILE
        entries = _readable_entries(path)
        if entries is not None and not _faults(path):
            return
        active = [entry.definition for entry in entries or () if entry.state is State.ACTIVE]
        definitions = active if entries is not None else self._definitions()
        draft = self._data_dir / f"{CATALOGUE_FILE}.draft"
        draft.unlink(missing_ok=True)
        table = CatalogueTable(draft)
        for definition in definitions:
            table.add(definition)
            table.set_state(definition.uid, State.ACTIVE)
        table.close()
        sync_path(draft)
        for old in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            self._set_aside(old)
        draft.rename(path)
        sync_path(self._data_dir)
        names = ", ".join(definition.spec.name for definition in definitions)
        source = "its own rows" if entries is not None else "the collections' folders"
        self._did(f"catalogue: made anew from {source}, with {len(definitions)} collections ({names})")

    def places(self) -> None:
        """Gives each collection the folder whose database says that it is this collection's."""
        places = folder_uids(self._data_dir)
        entries = _readable_entries(self._data_dir / CATALOGUE_FILE) or []
        wanted = {entry.definition.uid: self._parent / entry.definition.folder_name for entry in entries}
        moving = {uid: place for uid, place in places.items() if uid in wanted and place != wanted[uid]}
        for uid, place in moving.items():
            place.rename(self._parent / f".moving-{uid}")
        for uid, place in moving.items():
            if wanted[uid].exists():
                self._set_aside(wanted[uid])
            (self._parent / f".moving-{uid}").rename(wanted[uid])
            self._did(f"collection folder {wanted[uid].name}: was called {place.name}")
        sync_path(self._parent)

    def databases(self, found: CheckReport) -> None:
        """Rebuilds the databases in which something is damaged."""
        parts = ("collection", "record", "source")
        damaged = {one.uid for one in found.findings if one.severity is Severity.DAMAGE and one.part in parts}
        for entry in _readable_entries(self._data_dir / CATALOGUE_FILE) or []:
            if entry.definition.uid in damaged and entry.state is State.ACTIVE:
                self._rebuild(entry.definition)

    def indexes(self, found: CheckReport) -> None:
        """Removes damaged indexes; they are built anew from the record."""
        damaged = {one.uid for one in found.findings if one.part == "index"}
        for entry in _readable_entries(self._data_dir / CATALOGUE_FILE) or []:
            if entry.definition.uid in damaged:
                shutil.rmtree(self._parent / entry.definition.folder_name / INDEX_FOLDER, ignore_errors=True)
                self._did(f"collection {entry.definition.spec.name!r}: its index was removed, to be built anew")

    def others(self, found: CheckReport) -> None:
        """Takes out damaged snapshots where that is allowed, and a damaged list of jobs."""
        for finding in found.findings:
            if finding.severity is not Severity.DAMAGE:
                continue
            if finding.part == "snapshot":
                self._take_out_snapshot(finding)
            elif finding.part == "log":
                self._keep_log(finding)
            elif finding.part == "jobs":
                for suffix in ("", "-wal", "-shm"):
                    self._set_aside(self._data_dir / f"{JOBS_FILE}{suffix}")
                self._did("jobs: the damaged list was set aside; unfinished jobs are to be started again")

    def _rebuild(self, definition: Definition) -> None:
        name, folder = definition.spec.name, self._parent / definition.folder_name
        self._tick(f"rebuilding {name}", 0)
        try:
            lost = rebuild_records(folder, definition, drop_damaged=self._drop_damaged, quarantine=self._quarantine)
        except WouldLoseError as error:
            self._report.refusals.append(f"collection {name!r}: {error}; repair with --drop-damaged")
            return
        except ServingError as error:
            self._report.refusals.append(f"collection {name!r}: {error.message}; restore a snapshot")
            return
        told = (
            f"; {len(lost)} damaged were taken out: {named(lost)}; see {QUARANTINE_FOLDER}/"
            if lost
            else "; nothing was lost"
        )
        self._did(f"collection {name!r}: its database was rebuilt{told}")

    def _take_out_snapshot(self, finding: Finding) -> None:
        if not self._drop_damaged:
            self._report.refusals.append(f"snapshot {finding.subject!r} is damaged; repair with --drop-damaged")
            return
        self._set_aside(self._data_dir / SNAPSHOTS_FOLDER / finding.subject)
        self._did(f"snapshot {finding.subject!r}: taken out, because it is damaged")

    def _keep_log(self, finding: Finding) -> None:
        # Opening the database ends the log before the damage, and with it what could still be read behind it.
        for path in self._parent.glob(f"*.{finding.uid}/{RECORDS_FILE}*"):
            self._quarantine.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, self._quarantine / f"{path.parent.name}.{path.name}")
            sync_path(self._quarantine / f"{path.parent.name}.{path.name}")
        kept = f"the database as it was is kept in {QUARANTINE_FOLDER}/"
        self._report.refusals.append(f"collection {finding.subject!r}: {finding.problem}; {kept}")

    def _definitions(self) -> list[Definition]:
        found = []
        for uid, folder in folder_uids(self._data_dir).items():
            try:
                definition = read_definition(folder)
            except Corrupted as error:
                self._report.refusals.append(f"collection folder {folder.name}: {error.message}; it is left alone")
                continue
            if definition.uid == uid:
                found.append(definition)
        return found

    def _set_aside(self, path: Path) -> None:
        if path.exists():
            self._quarantine.mkdir(parents=True, exist_ok=True)
            path.rename(self._quarantine / path.name)
            sync_path(self._quarantine)
            sync_path(path.parent)

    def _did(self, sentence: str) -> None:
        self._report.actions.append(sentence)


def _readable_entries(path: Path) -> list[Entry] | None:
    try:
        with inspected(path, CATALOGUE_SCHEMA) as connection:
            return read_entries(connection)
    except (Corrupted, ValueError, TypeError, KeyError, json.JSONDecodeError):
        return None


def _faults(path: Path) -> list[str]:
    with inspected(path, CATALOGUE_SCHEMA) as connection:
        return structural_faults(connection)


def _open_and_build(data_dir: Path, report: RepairReport, tick: Tick) -> None:
    """Opens everything as a server does, which builds the indexes that are due."""
    tick("building indexes", 0)
    catalogue = CollectionCatalogue(data_dir, CollectionsConfig())
    try:
        for info in catalogue.list():
            if not catalogue.get(info.spec.name).settle(_SETTLE_S):
                report.refusals.append(f"collection {info.spec.name!r}: its index is not built yet")
    finally:
        catalogue.close()

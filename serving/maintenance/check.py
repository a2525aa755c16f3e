"""Verifies a whole data folder: every database, checksum, index and snapshot in it."""

from __future__ import annotations

from pathlib import Path

from serving.collections.catalogue import CATALOGUE_FILE, COLLECTIONS_FOLDER
from serving.collections.catalogue_table import CATALOGUE_SCHEMA, Entry, State, read_entries
from serving.collections.lock import LOCK_FILE
from serving.errors import Corrupted, FailedPrecondition, ServingError
from serving.jobs.runner import JOBS_FILE
from serving.jobs.table import JOBS_SCHEMA
from serving.maintenance.check_collection import check_collection
from serving.maintenance.findings import CheckReport, Finding, Severity, Tick
from serving.maintenance.folders import folder_uids, locked_folder
from serving.maintenance.inspection import inspected, structural_faults
from serving.snapshots.store import SEAL_FILE, SNAPSHOTS_FOLDER, read_snapshot, seal_of

__all__ = ["QUARANTINE_FOLDER", "check_folder", "check_locked"]

QUARANTINE_FOLDER = "quarantine"
"""Where a repair puts what it takes out."""
_REPAIR = "run `diptych repair` on the folder, or restore a snapshot"
_KNOWN = frozenset({CATALOGUE_FILE, COLLECTIONS_FOLDER, JOBS_FILE, SNAPSHOTS_FOLDER, LOCK_FILE, QUARANTINE_FOLDER})
_SIDE_FILES = ("-wal", "-shm", "-journal")


def _tell_nobody(_what: str, _share: float) -> None:
    """Hears of progress."""


def check_folder(data_dir: Path, *, tick: Tick = _tell_nobody) -> CheckReport:
    """Verifies a data folder that no server has, and changes nothing in it.

    Args:
        data_dir: The data folder.
        tick: Hears what is being looked at.

    Returns:
        What was found.

    Raises:
        InvalidInput: It is no data folder.
        FailedPrecondition: A server holds it.
    """
    with locked_folder(data_dir):
        return check_locked(data_dir, tick=tick)


def check_locked(data_dir: Path, *, tick: Tick = _tell_nobody) -> CheckReport:
    """Verifies a data folder whose lock the caller holds.

    Args:
        data_dir: The data folder.
        tick: Hears what is being looked at.

    Returns:
        What was found.
    """
    report = CheckReport()
    entries = _check_catalogue(data_dir, report)
    _check_names(entries, report)
    places = folder_uids(data_dir)
    for entry in entries:
        if entry.state is not State.ACTIVE:
            _note(report, "collection", entry.definition.spec.name, f"it is {entry.state}; the next start removes it")
            continue
        report.collection_count += 1
        check_collection(data_dir / COLLECTIONS_FOLDER, entry.definition, places, report, tick)
    _check_orphans(data_dir, entries, report)
    _check_snapshots(data_dir / SNAPSHOTS_FOLDER, report, tick)
    _check_jobs(data_dir / JOBS_FILE, report)
    for path in sorted(data_dir.iterdir()):
        if path.name not in _KNOWN and not path.name.removesuffix("-wal").removesuffix("-shm").endswith(".sqlite"):
            _note(report, "folder", path.name, "it belongs to nothing")
    return report


def _check_catalogue(data_dir: Path, report: CheckReport) -> list[Entry]:
    try:
        with inspected(data_dir / CATALOGUE_FILE, CATALOGUE_SCHEMA) as connection:
            for fault in structural_faults(connection):
                _damage(report, "catalogue", CATALOGUE_FILE, fault)
            return read_entries(connection)
    except FailedPrecondition as error:
        _note(report, "catalogue", CATALOGUE_FILE, error.message)
    except (ServingError, ValueError, TypeError, KeyError) as error:
        _damage(report, "catalogue", CATALOGUE_FILE, str(error))
    return []


def _check_names(entries: list[Entry], report: CheckReport) -> None:
    names: set[str] = set()
    for entry in entries:
        name = entry.definition.spec.name
        if entry.state is State.ACTIVE and name in names:
            _damage(report, "catalogue", CATALOGUE_FILE, f"it has two collections {name!r}")
        names.add(name)


def _check_orphans(data_dir: Path, entries: list[Entry], report: CheckReport) -> None:
    parent = data_dir / COLLECTIONS_FOLDER
    known = {entry.definition.folder_name for entry in entries}
    for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
        if folder.name not in known:
            problem = "it belongs to no collection of the catalogue; move it away if nobody needs it"
            _note(report, "folder", f"{COLLECTIONS_FOLDER}/{folder.name}", problem)


def _check_snapshots(parent: Path, report: CheckReport, tick: Tick) -> None:
    for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
        if folder.name.startswith("."):
            _note(report, "snapshot", folder.name, "it is a draft; the next start removes it")
            continue
        report.snapshot_count += 1
        tick(f"snapshot {folder.name}", 0)
        try:
            manifest, seal = read_snapshot(folder)
            found = seal_of(folder, manifest)
            if found != seal:
                raise Corrupted(f"it has sha256 {found.sha256}, its {SEAL_FILE} says {seal.sha256}")
        except ServingError as error:
            report.findings.append(
                Finding(
                    severity=Severity.DAMAGE,
                    part="snapshot",
                    subject=folder.name,
                    problem=error.message,
                    remedy="delete the snapshot and take another",
                )
            )


def _check_jobs(path: Path, report: CheckReport) -> None:
    if not path.exists():
        return
    try:
        with inspected(path, JOBS_SCHEMA) as connection:
            for fault in structural_faults(connection):
                _damage(report, "jobs", JOBS_FILE, fault)
    except FailedPrecondition as error:
        _note(report, "jobs", JOBS_FILE, error.message)
    except ServingError as error:
        _damage(report, "jobs", JOBS_FILE, error.message)


def _damage(report: CheckReport, part: str, subject: str, problem: str) -> None:
    finding = Finding(severity=Severity.DAMAGE, part=part, subject=subject, problem=problem, remedy=_REPAIR)
    report.findings.append(finding)


def _note(report: CheckReport, part: str, subject: str, problem: str) -> None:
    finding = Finding(severity=Severity.NOTE, part=part, subject=subject, problem=problem, remedy="")
    report.findings.append(finding)

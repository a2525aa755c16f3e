"""Takes a snapshot of a collection while writes go on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from serving.collections.collection import Collection
from serving.collections.database import disk_error
from serving.collections.record_audit import audit_records
from serving.errors import SnapshotNotFound
from serving.jobs.kind import Cancelled, JobKind, JobStopped, Progress
from serving.jobs.workplace import Workplace
from serving.snapshots.manifest import RECORDS_FILE, FileSeal, SnapshotManifest

__all__ = ["TakeSnapshot"]

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class TakeSnapshot(JobKind):
    """Copies the record at one sequence, verifies the copy record by record, and publishes it.

    The index is left out: it is derived, and a restored collection answers exactly until it has built its own.
    """

    kind: ClassVar[str] = "snapshot"
    resumes: ClassVar[bool] = True

    snapshot: str
    """Name of the snapshot."""
    collection: str
    """Name of the collection."""

    @property
    def subject(self) -> str:
        """The snapshot's name."""
        return self.snapshot

    def run(self, workplace: Workplace, progress: Progress, cancelled: Cancelled) -> None:
        """Takes it; a unit of progress is a byte, of which each is copied, verified, hashed and sealed."""
        store = workplace.snapshots
        if _exists(workplace, self.snapshot):
            return  # A restart came between its end and the note of it.
        collection = workplace.catalogue.get(self.collection)
        with store.draft() as draft:
            path = draft / RECORDS_FILE
            collection.copy_records(path, cancelled=cancelled)
            if cancelled():
                raise JobStopped
            size_bytes = path.stat().st_size
            tick = _ticker(progress, 4 * size_bytes, cancelled)
            manifest = _describe(collection, path, lambda done_bytes: tick(size_bytes + done_bytes))
            store.publish(self.snapshot, draft, manifest, tick=lambda done_bytes: tick(3 * size_bytes + done_bytes))


def _exists(workplace: Workplace, name: str) -> bool:
    try:
        workplace.snapshots.get(name)
    except SnapshotNotFound:
        return False
    return True


def _ticker(progress: Progress, total_bytes: int, cancelled: Cancelled) -> Callable[[int], None]:
    def tick(done_bytes: int) -> None:
        if cancelled():
            raise JobStopped
        progress.report(min(done_bytes, total_bytes), total_bytes)

    return tick


def _describe(collection: Collection, path: Path, tick: Callable[[int], None]) -> SnapshotManifest:
    spec, uid = collection.definition.spec, collection.definition.uid
    size_bytes = path.stat().st_size
    summary = audit_records(path, spec, uid, tick=lambda share: tick(round(share * size_bytes)))
    try:
        sha256 = _sha256(path, lambda done_bytes: tick(size_bytes + done_bytes))
    except OSError as error:
        raise disk_error(error, f"a snapshot of collection {spec.name!r}") from error
    return SnapshotManifest(
        spec=spec,
        uid=uid,
        sequence=summary.sequence,
        record_count=summary.record_count,
        create_time=datetime.now(UTC),
        files={RECORDS_FILE: FileSeal(size_bytes=size_bytes, sha256=sha256)},
    )


def _sha256(path: Path, tick: Callable[[int], None]) -> str:
    digest, done_bytes = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            done_bytes += len(block)
            tick(done_bytes)
    return digest.hexdigest()

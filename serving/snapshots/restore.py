"""Makes a collection from a snapshot."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from serving.collections.database import disk_error
from serving.collections.definition import check_spec
from serving.collections.record_schema import adopt_records
from serving.jobs.kind import Cancelled, JobKind, JobStopped, Progress
from serving.jobs.workplace import Workplace
from serving.snapshots.archive import ArchiveReader, ArchiveReceiver
from serving.snapshots.manifest import MANIFEST_FILE, RECORDS_FILE, SnapshotInfo

__all__ = ["RestoreSnapshot"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RestoreSnapshot(JobKind):
    """Copies a snapshot's record into a new collection, which appears once every checksum has held."""

    kind: ClassVar[str] = "restore"
    resumes: ClassVar[bool] = True

    snapshot: str
    """Name of the snapshot."""
    collection: str
    """Name of the collection to be."""

    @property
    def subject(self) -> str:
        """The collection's name."""
        return self.collection

    def run(self, workplace: Workplace, progress: Progress, cancelled: Cancelled) -> None:
        """Restores it; a unit of progress is a byte."""
        # Chosen once: a restart that came after the end finds the collection there, and knows it for its own.
        uid = str(progress.saved.get("uid") or secrets.token_hex(8))
        if workplace.catalogue.has_uid(uid):
            return
        progress.save({"uid": uid})
        with workplace.snapshots.open(self.snapshot) as (info, reader):
            self._restore(workplace, info, reader, uid, progress, cancelled)

    def _restore(
        self,
        workplace: Workplace,
        info: SnapshotInfo,
        reader: ArchiveReader,
        uid: str,
        progress: Progress,
        cancelled: Cancelled,
    ) -> None:
        def fill(folder: Path) -> None:
            receiver = ArchiveReceiver(folder, size_bytes=info.size_bytes, sha256=info.sha256)
            done_bytes = 0
            try:
                for piece in reader.pieces():
                    if cancelled():
                        raise JobStopped
                    receiver.feed(piece)
                    done_bytes += len(piece)
                    progress.report(done_bytes, info.size_bytes)
                receiver.finish()
                (folder / MANIFEST_FILE).unlink()
                adopt_records(folder / RECORDS_FILE, spec, uid)
            except OSError as error:
                raise disk_error(error, f"collection {self.collection!r}") from error
            finally:
                receiver.close()

        spec = replace(reader.manifest.spec, name=self.collection)
        check_spec(spec)
        workplace.catalogue.create_filled(spec, uid, fill)

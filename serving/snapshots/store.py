"""The snapshots of one data folder: `snapshots/NAME/` holds the files, the manifest, and a seal over all of it."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from serving.collections.database import disk_error
from serving.collections.durable import publish_folder, sync_path
from serving.errors import Corrupted, ServingError, SnapshotExists, SnapshotNotFound
from serving.snapshots.archive import ArchiveReader, archive_size
from serving.snapshots.manifest import (
    MANIFEST_FILE,
    FileSeal,
    SnapshotInfo,
    SnapshotManifest,
    check_snapshot_name,
)

__all__ = ["SEAL_FILE", "SNAPSHOTS_FOLDER", "SnapshotStore", "read_snapshot", "seal_of"]

logger = logging.getLogger(__name__)

SNAPSHOTS_FOLDER = "snapshots"
SEAL_FILE = "seal.json"
"""Size and SHA-256 of the archive; not in the archive itself."""
_DRAFT = ".draft-"


class SnapshotStore:
    """Keeps snapshots, each wholly there or not at all; calls may come from any thread.

    Args:
        folder: Made where missing; drafts that a crash left in it are removed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changing = threading.Lock()
        folder.mkdir(exist_ok=True)
        sync_path(folder.parent)
        for draft in folder.glob(f"{_DRAFT}*"):
            shutil.rmtree(draft, ignore_errors=True)

    def new_name(self, collection: str, now: datetime) -> str:
        """Returns a name that no snapshot has.

        Args:
            collection: The collection's name.
            now: The time, in UTC.

        Returns:
            Collection, time and four random digits.
        """
        return f"{collection}-{now.astimezone(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"

    def list(self) -> list[SnapshotInfo]:
        """Returns the snapshots, the newest first; damaged ones are left out, and logged."""
        found = []
        for folder in self._folder.iterdir():
            if folder.name.startswith(_DRAFT):
                continue
            try:
                found.append(self.get(folder.name))
            except ServingError as error:
                logger.warning("snapshot is damaged", extra={"snapshot": folder.name, "detail": error.message})
        return sorted(found, key=lambda info: (info.create_time, info.name), reverse=True)

    def get(self, name: str) -> SnapshotInfo:
        """Returns a snapshot.

        Args:
            name: Its name.

        Returns:
            What its manifest and its seal say.

        Raises:
            SnapshotNotFound: There is none of that name.
            Corrupted: Its manifest or seal cannot be read.
        """
        manifest, seal = self._read(name)
        return SnapshotInfo(
            name=name,
            collection=manifest.spec.name,
            sequence=manifest.sequence,
            record_count=manifest.record_count,
            size_bytes=seal.size_bytes,
            sha256=seal.sha256,
            create_time=manifest.create_time,
        )

    def delete(self, name: str) -> None:
        """Deletes a snapshot; who is reading it may read to its end.

        Args:
            name: Its name; a damaged one may be deleted too.

        Raises:
            SnapshotNotFound: There is none of that name.
        """
        with self._changing:
            folder = self._existing(name)
            # Renamed first: a deletion cut short must not leave half a snapshot under a snapshot's name.
            doomed = self._folder / f"{_DRAFT}{secrets.token_hex(8)}"
            folder.rename(doomed)
            sync_path(self._folder)
        shutil.rmtree(doomed, ignore_errors=True)

    @contextmanager
    def open(self, name: str) -> Iterator[tuple[SnapshotInfo, ArchiveReader]]:
        """Opens a snapshot's archive.

        Args:
            name: Its name.

        Yields:
            What it is, and its bytes.

        Raises:
            SnapshotNotFound: There is none of that name.
            Corrupted: A file is missing, or has another size.
        """
        info = self.get(name)
        reader = ArchiveReader(self._folder / name, self._read(name)[0])
        try:
            yield info, reader
        finally:
            reader.close()

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """Lends an empty folder on the store's disk, which is gone afterwards unless it was published.

        Yields:
            The folder.
        """
        folder = self._folder / f"{_DRAFT}{secrets.token_hex(8)}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def free_bytes(self) -> int:
        """Returns the room on the store's disk."""
        return shutil.disk_usage(self._folder).free

    def publish(
        self, name: str, draft: Path, manifest: SnapshotManifest, *, tick: Callable[[int], None] = lambda _: None
    ) -> SnapshotInfo:
        """Makes a draft a snapshot, durably and at once.

        Args:
            name: The new snapshot's.
            draft: Holds the manifest's files.
            manifest: What they are.
            tick: Told of the bytes read so far; may raise.

        Returns:
            The snapshot.

        Raises:
            SnapshotExists: There is one of that name.
            StorageFull: The disk has no room.
        """
        check_snapshot_name(name)
        try:
            (draft / MANIFEST_FILE).write_bytes(manifest.to_json())
            seal = seal_of(draft, manifest, tick=tick)
            (draft / SEAL_FILE).write_text(json.dumps(asdict(seal)), encoding="utf-8")
            with self._changing:
                if (self._folder / name).exists():
                    raise SnapshotExists(f"there is a snapshot {name!r} already; delete it first", snapshot=name)
                publish_folder(draft, self._folder / name)
        except OSError as error:
            raise disk_error(error, f"snapshot {name!r}") from error
        return self.get(name)

    def _read(self, name: str) -> tuple[SnapshotManifest, FileSeal]:
        return read_snapshot(self._existing(name))

    def _existing(self, name: str) -> Path:
        check_snapshot_name(name)
        folder = self._folder / name
        if not folder.is_dir():
            raise SnapshotNotFound(f"there is no snapshot {name!r}", snapshot=name)
        return folder


def read_snapshot(folder: Path) -> tuple[SnapshotManifest, FileSeal]:
    """Reads what a snapshot says of itself.

    Args:
        folder: The snapshot's.

    Returns:
        Its manifest, and the seal over its archive.

    Raises:
        Corrupted: One of them cannot be read, or they do not belong together.
        FailedPrecondition: A newer diptych wrote it.
    """
    name = folder.name
    try:
        seal = FileSeal(**json.loads((folder / SEAL_FILE).read_text(encoding="utf-8")))
        manifest = SnapshotManifest.from_json((folder / MANIFEST_FILE).read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise Corrupted(f"snapshot {name!r} cannot be read: {error}; delete it", snapshot=name) from error
    if seal.size_bytes != archive_size(manifest):
        raise Corrupted(f"the manifest of snapshot {name!r} does not match its seal; delete it", snapshot=name)
    return manifest, seal


def seal_of(folder: Path, manifest: SnapshotManifest, *, tick: Callable[[int], None] = lambda _: None) -> FileSeal:
    """Reads all of a snapshot's files.

    Args:
        folder: Holds them.
        manifest: What they are.
        tick: Told of the bytes read so far; may raise.

    Returns:
        Size and checksum of the archive that they make.

    Raises:
        Corrupted: A file is missing, or has another size.
    """
    reader = ArchiveReader(folder, manifest)
    try:
        digest, done_bytes = hashlib.sha256(), 0
        for piece in reader.pieces():
            digest.update(piece)
            done_bytes += len(piece)
            tick(done_bytes)
    finally:
        reader.close()
    return FileSeal(size_bytes=done_bytes, sha256=digest.hexdigest())

"""Takes a snapshot in pieces; nothing of it stays unless all of it arrived and its checksum holds."""

from __future__ import annotations

import re
from contextlib import ExitStack

from serving.collections.database import disk_error
from serving.errors import InputTooLarge, InvalidInput, SnapshotExists, SnapshotNotFound, StorageFull
from serving.snapshots.archive import ArchiveReceiver
from serving.snapshots.manifest import SnapshotInfo, check_snapshot_name
from serving.snapshots.store import SnapshotStore

__all__ = ["MAX_PIECE_BYTES", "Upload"]

MAX_PIECE_BYTES = 1 << 20
_RESERVED_BYTES = 256 << 20
"""Room that an upload leaves to the collections."""


class Upload:
    """One snapshot on its way in; one piece at a time.

    Args:
        store: Where it shall be kept.
        name: What it shall be called.
        size_bytes: Of its archive.
        sha256: Of its archive.

    Raises:
        InvalidInput: The description is none of a snapshot.
        SnapshotExists: There is another of that name.
        StorageFull: The disk has no room for it.
    """

    def __init__(self, store: SnapshotStore, name: str, *, size_bytes: int, sha256: str) -> None:
        check_snapshot_name(name)
        if not re.fullmatch("[0-9a-f]{64}", sha256) or size_bytes < 1:
            raise InvalidInput(
                "the first piece must give the snapshot's size_bytes and sha256, as a download gave them"
            )
        self._store = store
        self._name = name
        self._present = self._find(sha256)
        if self._present is None and size_bytes + _RESERVED_BYTES > store.free_bytes():
            raise StorageFull(
                f"the snapshot takes {size_bytes} bytes, the disk has {store.free_bytes()} left; free disk space",
                size_bytes=size_bytes,
            )
        self._held = ExitStack()
        self._draft = self._held.enter_context(store.draft())
        self._receiver = ArchiveReceiver(self._draft, size_bytes=size_bytes, sha256=sha256)
        self._held.callback(self._receiver.close)

    def feed(self, data: bytes) -> None:
        """Takes the next piece.

        Args:
            data: At most 1 MiB.

        Raises:
            InputTooLarge: It is longer.
            InvalidInput: These are not the bytes of a snapshot.
            FailedPrecondition: A newer diptych wrote it.
            StorageFull: The disk has no room.
        """
        if len(data) > MAX_PIECE_BYTES:
            raise InputTooLarge(
                f"a piece has {len(data)} bytes, more than {MAX_PIECE_BYTES}; send smaller ones", limit=MAX_PIECE_BYTES
            )
        if self._present is not None or not data:
            return
        try:
            self._receiver.feed(data)
        except OSError as error:
            raise disk_error(error, f"snapshot {self._name!r}") from error

    def finish(self) -> SnapshotInfo:
        """Keeps the snapshot, durably.

        Returns:
            What it is.

        Raises:
            Corrupted: It is incomplete, or its checksum does not hold.
            SnapshotExists: There is another of that name by now.
            StorageFull: The disk has no room.
        """
        if self._present is not None:
            return self._present
        manifest = self._receiver.finish()
        return self._store.publish(self._name, self._draft, manifest)

    def close(self) -> None:
        """Removes what was not kept; closing twice is harmless."""
        self._held.close()

    def _find(self, sha256: str) -> SnapshotInfo | None:
        try:
            found = self._store.get(self._name)
        except SnapshotNotFound:
            return None
        if found.sha256 != sha256:
            raise SnapshotExists(
                f"there is another snapshot {self._name!r} already; delete it or upload under another name",
                snapshot=self._name,
            )
        return found

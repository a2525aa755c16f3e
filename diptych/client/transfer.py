"""Snapshots as files: a download that goes on where it broke, an upload in pieces."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from diptych.client.errors import CorruptedError
from diptych.v1 import snapshot_service_pb2 as pb

__all__ = ["DOWNLOAD", "UPLOAD", "Advance", "DownloadFile", "tell_nobody", "upload_pieces"]

DOWNLOAD = "/diptych.v1.SnapshotService/DownloadSnapshot"
UPLOAD = "/diptych.v1.SnapshotService/UploadSnapshot"
PIECE_BYTES = 1 << 20
Advance = Callable[[int, int], None]
"""Told of the bytes done, and of all."""


def tell_nobody(_done_bytes: int, _total_bytes: int) -> None:
    """Is told of the bytes done, and of all."""


class DownloadFile:
    """Where a download goes: beside its place until it is whole and its checksum holds, so that it can be gone on with.

    Args:
        path: Its place.
        snapshot: What is downloaded.
        advance: Hears how far it is.

    Raises:
        FileExistsError: There is a file already.
        OSError: The disk refuses it.
    """

    def __init__(self, path: Path, snapshot: pb.Snapshot, advance: Advance) -> None:
        if path.exists():
            raise FileExistsError(f"{path} is there already; remove it or name another file")
        self._path = path
        self._snapshot = snapshot
        self._advance = advance
        self._unfinished = path.with_name(f".{path.name}.{snapshot.sha256[:16]}.unfinished")
        self._digest = hashlib.sha256()
        self.offset_bytes = 0
        """The byte to go on at."""
        self._file: BinaryIO = self._unfinished.open("a+b")
        self._read_what_is_there()

    def request(self) -> pb.DownloadSnapshotRequest:
        """Returns what to ask the server for."""
        return pb.DownloadSnapshotRequest(name=self._snapshot.name, offset_bytes=self.offset_bytes)

    def write(self, reply: pb.DownloadSnapshotResponse) -> None:
        """Takes the next piece.

        Args:
            reply: From the stream.

        Raises:
            CorruptedError: The server now has another snapshot of that name.
        """
        if reply.HasField("snapshot") and reply.snapshot.sha256 != self._snapshot.sha256:
            raise CorruptedError(
                f"snapshot '{self._snapshot.name}' was replaced meanwhile; download it anew", code="DATA_LOSS"
            )
        self._file.write(reply.data)
        self._add(reply.data)

    def finish(self) -> None:
        """Puts the file in its place, durably.

        Raises:
            CorruptedError: Its checksum does not hold; what was downloaded is removed.
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if self._digest.hexdigest() != self._snapshot.sha256:
            self._unfinished.unlink()
            message = f"what was downloaded is not snapshot '{self._snapshot.name}'; download it anew"
            raise CorruptedError(message, code="DATA_LOSS")
        self._unfinished.replace(self._path)

    def close(self) -> None:
        """Closes the file; what was downloaded stays, to go on with."""
        self._file.close()

    def _read_what_is_there(self) -> None:
        self._file.seek(0)
        while piece := self._file.read(PIECE_BYTES):
            self._add(piece)

    def _add(self, piece: bytes) -> None:
        self._digest.update(piece)
        self.offset_bytes += len(piece)
        self._advance(self.offset_bytes, self._snapshot.size_bytes)


def upload_pieces(path: Path, name: str, advance: Advance) -> Iterator[pb.UploadSnapshotRequest]:
    """Yields what an upload sends.

    Args:
        path: A file that a download made.
        name: What the snapshot shall be called; empty: as the file.
        advance: Hears how far it is.

    Yields:
        The description first, then the bytes.

    Raises:
        OSError: The file cannot be read.
    """
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        told = pb.Snapshot(name=name or path.name.removesuffix(".tar"), size_bytes=size_bytes, sha256=digest)
        yield pb.UploadSnapshotRequest(snapshot=told)
        file.seek(0)
        while piece := file.read(PIECE_BYTES):
            yield pb.UploadSnapshotRequest(data=piece)
            advance(min(file.tell(), size_bytes), size_bytes)

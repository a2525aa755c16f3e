"""The form in which a snapshot travels: an uncompressed tar of the manifest and its files, in one fixed order.

It is never stored: headers are computed, so that any byte of it can be sent from the files, and its SHA-256 is a
function of them. What arrives must be such an archive to the bit; no name in it is ever used as a path.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from serving.errors import Corrupted, InvalidInput
from serving.snapshots.manifest import MANIFEST_FILE, SnapshotManifest

__all__ = ["ArchiveReader", "ArchiveReceiver", "archive_size"]

_BLOCK_BYTES = 512
_END = bytes(2 * _BLOCK_BYTES)
_MAX_MANIFEST_BYTES = 1 << 20
_PIECE_BYTES = 1 << 20


def _header(name: str, size_bytes: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = size_bytes
    entry.mode = 0o644
    return entry.tobuf(tarfile.GNU_FORMAT)


def _padding(size_bytes: int) -> bytes:
    return bytes(-size_bytes % _BLOCK_BYTES)


def _sizes(manifest: SnapshotManifest) -> dict[str, int]:
    manifest_bytes = len(manifest.to_json())
    return {MANIFEST_FILE: manifest_bytes} | {name: manifest.files[name].size_bytes for name in sorted(manifest.files)}


def archive_size(manifest: SnapshotManifest) -> int:
    """Returns the bytes of a snapshot's archive.

    Args:
        manifest: The snapshot's.

    Returns:
        Headers and padding included.
    """
    padded = (_BLOCK_BYTES + size + len(_padding(size)) for size in _sizes(manifest).values())
    return sum(padded) + len(_END)


class ArchiveReader:
    """Reads a snapshot's folder as its archive; what is deleted meanwhile can still be read to its end.

    Args:
        folder: Holds the files.
        manifest: What they are.

    Raises:
        Corrupted: A file is missing, or has another size.
    """

    def __init__(self, folder: Path, manifest: SnapshotManifest) -> None:
        self.manifest = manifest
        """What is in it."""
        self._parts: list[bytes | tuple[BinaryIO, int]] = []
        with ExitStack() as opened:
            for name, size_bytes in _sizes(manifest).items():
                file = self._open(folder / name, size_bytes)
                opened.enter_context(file)
                self._parts += [_header(name, size_bytes), (file, size_bytes), _padding(size_bytes)]
            self._files = opened.pop_all()
        self._parts.append(_END)

    def close(self) -> None:
        """Closes the files."""
        self._files.close()

    def pieces(self, offset_bytes: int = 0) -> Iterator[bytes]:
        """Yields the archive.

        Args:
            offset_bytes: The byte to begin at, in [0, size].

        Yields:
            Pieces of at most 1 MiB, none empty.

        Raises:
            Corrupted: A file ended early.
        """
        for part in self._parts:
            size_bytes = len(part) if isinstance(part, bytes) else part[1]
            skipped = min(offset_bytes, size_bytes)
            offset_bytes -= skipped
            if skipped == size_bytes:
                continue
            if isinstance(part, bytes):
                yield part[skipped:]
            else:
                yield from self._file_pieces(part[0], skipped, size_bytes)

    @staticmethod
    def _file_pieces(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
        file.seek(start)
        while start < end:
            piece = file.read(min(_PIECE_BYTES, end - start))
            if not piece:
                raise Corrupted(f"{file.name} has become shorter while it was read", path=file.name)
            yield piece
            start += len(piece)

    @staticmethod
    def _open(path: Path, size_bytes: int) -> BinaryIO:
        try:
            file = path.open("rb")
        except FileNotFoundError as error:
            raise Corrupted(f"{path} of the snapshot is missing; delete the snapshot", path=path) from error
        found = path.stat().st_size
        if found != size_bytes:
            file.close()
            raise Corrupted(f"{path} has {found} bytes, not {size_bytes}; delete the snapshot", path=path)
        return file


class ArchiveReceiver:
    """Takes an archive in pieces and writes its files into a folder, checking all it says.

    Args:
        folder: An empty folder; what is in it counts only once `finish` has returned.
        size_bytes: What the archive must have.
        sha256: What it must have, lower-case hexadecimal.
    """

    def __init__(self, folder: Path, *, size_bytes: int, sha256: str) -> None:
        self._folder = folder
        self._size_bytes = size_bytes
        self._sha256 = sha256
        self._digest = hashlib.sha256()
        self._taken_bytes = 0
        self._buffer = bytearray()
        self._open_file: BinaryIO | None = None
        self._manifest: SnapshotManifest | None = None
        self._ended = False
        self._parser = self._parse()
        next(self._parser)

    def feed(self, data: bytes) -> None:
        """Takes the next piece.

        Args:
            data: Any bytes.

        Raises:
            InvalidInput: This is no archive of a snapshot, or it is longer than was said.
            FailedPrecondition: A newer diptych wrote it.
            OSError: The disk refuses it.
        """
        self._taken_bytes += len(data)
        if self._taken_bytes > self._size_bytes or (self._ended and data):
            raise InvalidInput(f"the snapshot is longer than its {self._size_bytes} bytes", limit=self._size_bytes)
        self._digest.update(data)
        self._buffer += data
        try:
            self._parser.send(None)
        except StopIteration:
            self._ended = True
            if self._buffer:
                raise InvalidInput("the snapshot has bytes after its end") from None

    def finish(self) -> SnapshotManifest:
        """Returns what arrived, once all of it did.

        Returns:
            The manifest; the folder holds it and its files, closed but not yet synchronised.

        Raises:
            Corrupted: It is incomplete, or its checksum does not hold.
        """
        found = self._digest.hexdigest()
        if self._taken_bytes != self._size_bytes:
            raise Corrupted(
                f"{self._taken_bytes} of {self._size_bytes} bytes of the snapshot arrived; send it again",
                found_bytes=self._taken_bytes,
            )
        if found != self._sha256 or self._manifest is None or not self._ended:
            raise Corrupted(
                f"the snapshot has sha256 {found}, not {self._sha256}; it was damaged on its way or on its disk",
                found_sha256=found,
            )
        return self._manifest

    def close(self) -> None:
        """Closes a file that is being written."""
        if self._open_file is not None:
            self._open_file.close()

    def _parse(self) -> Generator[None, None, None]:
        """Consumes the buffer; waits, at each bare `yield`, for more of it."""
        header = yield from self._take(_BLOCK_BYTES)
        size_bytes = _size_in(header)
        _check(header == _header(MANIFEST_FILE, size_bytes) and size_bytes <= _MAX_MANIFEST_BYTES, "its first header")
        text = yield from self._take(size_bytes)
        manifest = SnapshotManifest.from_json(text)
        (self._folder / MANIFEST_FILE).write_bytes(text)
        yield from self._skip(_padding(size_bytes))
        for name in sorted(manifest.files):
            seal = manifest.files[name]
            yield from self._skip(_header(name, seal.size_bytes))
            found = yield from self._write(name, seal.size_bytes)
            if found != seal.sha256:
                raise Corrupted(f"{name} of the snapshot does not match its sha256", file=name)
            yield from self._skip(_padding(seal.size_bytes))
        yield from self._skip(_END)
        self._manifest = manifest

    def _take(self, size_bytes: int) -> Generator[None, None, bytes]:
        while len(self._buffer) < size_bytes:
            yield
        taken = bytes(self._buffer[:size_bytes])
        del self._buffer[:size_bytes]
        return taken

    def _skip(self, expected: bytes) -> Generator[None, None, None]:
        found = yield from self._take(len(expected))
        _check(found == expected, "a header or its padding")

    def _write(self, name: str, size_bytes: int) -> Generator[None, None, str]:
        digest, left = hashlib.sha256(), size_bytes
        with (self._folder / name).open("xb") as file:
            self._open_file = file
            while left:
                while not self._buffer:
                    yield
                piece = bytes(self._buffer[:left])
                del self._buffer[: len(piece)]
                file.write(piece)
                digest.update(piece)
                left -= len(piece)
        return digest.hexdigest()


def _size_in(header: bytes) -> int:
    try:
        return tarfile.TarInfo.frombuf(header, "utf-8", "strict").size
    except (tarfile.HeaderError, UnicodeError) as error:
        raise InvalidInput("these are not the bytes of a snapshot; send what a download gave") from error


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise InvalidInput(f"these are not the bytes of a snapshot: {what} is another; send what a download gave")

"""What SQLite sees of a failing disk."""

# ruff: noqa: N802 - SQLite names the methods of a VFS

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw

from tests.faults.failure import Failure, raise_sqlite_error

if TYPE_CHECKING:
    from tests.faults.disk import Disk

__all__ = ["WatchedVfs"]

SYNCS_ITS_FOLDER = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL
"""SQLite syncs the folder of a log when it first syncs the log, and that of a database never."""


class WatchedVfs(apsw.VFS):
    """Becomes the default; the files of the disk's folder are watched."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        super().__init__("faulty", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name or "")
        watched = name is not None and self._disk.covers(path)
        return _WatchedFile(self._disk, path, name, flags) if watched else apsw.VFSFile("unix", name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        path = Path(filename)
        if self._disk.covers(path):
            raise_sqlite_error(self._disk.step("delete", path), apsw.SQLITE_IOERR_DELETE)
        super().xDelete(filename, syncdir)
        if self._disk.covers(path) and syncdir:
            self._disk.forgotten(path)


class _WatchedFile(apsw.VFSFile):
    def __init__(self, disk: Disk, path: Path, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._path = path
        self._with_name = bool(flags[0] & SYNCS_ITS_FOLDER)
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        failure = self._disk.step("write", self._path)
        if failure is not None and failure is not Failure.POWER:
            # A write that fails may have been begun.
            super().xWrite(data[: len(data) // 2], offset)
            self._disk.wrote(self._path, offset, len(data) // 2)
        raise_sqlite_error(failure, apsw.SQLITE_IOERR_WRITE)
        super().xWrite(data, offset)
        self._disk.wrote(self._path, offset, len(data))

    def xTruncate(self, size: int) -> None:
        raise_sqlite_error(self._disk.step("truncate", self._path), apsw.SQLITE_IOERR_TRUNCATE)
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        failure = self._disk.step("sync", self._path)
        if failure is not None and failure is not Failure.POWER:
            self._disk.sync_failed(self._path)
        raise_sqlite_error(failure, apsw.SQLITE_IOERR_FSYNC)
        # No real sync: no power is lost here, and tests need not wait for the disk.
        self._disk.synced(self._path, with_name=self._with_name)

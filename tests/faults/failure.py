"""How an operation on the disk fails, in the words of the system and in those of SQLite."""

from __future__ import annotations

import errno
import os
from enum import StrEnum

import apsw

__all__ = ["FailedDisk", "Failure", "raise_os_error", "raise_sqlite_error"]


class Failure(StrEnum):
    """How an operation fails."""

    IO = "io"
    FULL = "full"
    POWER = "power"
    """From here on nothing reaches the disk, and nothing is acknowledged."""


class FailedDisk(apsw.IOError):
    """An I/O error with a result of its own."""

    def __init__(self, extendedresult: int) -> None:
        super().__init__("the disk does not answer")
        self.extendedresult = extendedresult


def raise_os_error(failure: Failure | None) -> None:
    if failure is not None:
        number = errno.ENOSPC if failure is Failure.FULL else errno.EIO
        raise OSError(number, os.strerror(number))


def raise_sqlite_error(failure: Failure | None, code: int) -> None:
    """Fails as SQLite's own VFS does: a full disk has a result of its own, all else is a kind of I/O error."""
    if failure is Failure.FULL and code == apsw.SQLITE_IOERR_WRITE:
        raise apsw.FullError("no room")
    if failure is not None:
        raise FailedDisk(code)

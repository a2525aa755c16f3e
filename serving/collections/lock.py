"""One server a data folder: an exclusive lock that dies with its process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from serving.errors import FailedPrecondition

__all__ = ["LOCK_FILE", "FolderLock"]

LOCK_FILE = "LOCK"


class FolderLock:
    """Holds a folder exclusively until it is released or the process ends.

    The file stays when the lock goes: unlinking it would let two processes lock two files of one name.

    Args:
        folder: An existing folder.

    Raises:
        FailedPrecondition: Another server holds it; the message names the folder and the holder.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise FailedPrecondition(
                f"the data folder {folder} is in use by the server with process id {holder}; "
                "stop that server or name another folder",
                folder=folder,
                holder_pid=holder,
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode("ascii"), 0)

    def release(self) -> None:
        """Gives the folder back; releasing twice is harmless."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

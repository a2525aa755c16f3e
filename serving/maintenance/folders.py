"""Which collection a folder holds: its database says so, whatever the folder is called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from serving.collections.catalogue import CATALOGUE_FILE, COLLECTIONS_FOLDER
from serving.collections.collection import RECORDS_FILE
from serving.collections.lock import FolderLock
from serving.collections.record_schema import RECORDS_SCHEMA
from serving.errors import InvalidInput, ServingError
from serving.maintenance.inspection import inspected

__all__ = ["folder_uids", "locked_folder", "uid_in"]


@contextmanager
def locked_folder(data_dir: Path) -> Iterator[None]:
    """Holds a data folder that no server has.

    Args:
        data_dir: The data folder.

    Yields:
        Nothing.

    Raises:
        InvalidInput: It is no data folder.
        FailedPrecondition: A server holds it.
    """
    if not (data_dir / CATALOGUE_FILE).exists() and not (data_dir / COLLECTIONS_FOLDER).is_dir():
        raise InvalidInput(f"{data_dir} is no data folder: it has neither {CATALOGUE_FILE} nor {COLLECTIONS_FOLDER}/")
    lock = FolderLock(data_dir)
    try:
        yield
    finally:
        lock.release()


def uid_in(folder: Path) -> str:
    """Returns the uid of the collection whose database lies in a folder.

    Args:
        folder: Any folder.

    Returns:
        The uid; empty where that cannot be read.
    """
    try:
        with inspected(folder / RECORDS_FILE, RECORDS_SCHEMA) as connection:
            row = connection.execute("SELECT uid FROM collection").fetchone()
    except (ServingError, apsw.Error):
        return ""
    return str(row[0]) if row else ""


def folder_uids(data_dir: Path) -> dict[str, Path]:
    """Returns the folders of a data folder's collections.

    Args:
        data_dir: The data folder.

    Returns:
        By the uid that each database says.
    """
    parent = data_dir / COLLECTIONS_FOLDER
    folders = [folder for folder in sorted(parent.iterdir()) if folder.is_dir()] if parent.is_dir() else []
    found: dict[str, Path] = {}
    for folder in folders:
        uid = uid_in(folder)
        # Of a collection and a copy of its folder, the one that has its name.
        if uid and (uid not in found or folder.name.endswith(f".{uid}")):
            found[uid] = folder
    return found

"""Files that are there whole or not at all, also after a crash."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from training.corpora.publish import sync_file

__all__ = ["publish", "publish_text"]


def publish(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file aside and puts it in place at once.

    Args:
        path: Where it shall be; a file there is replaced.
        write: Writes the content to the path it is given.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        sync_file(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name itself must survive a power cut
    finally:
        os.close(folder)


def publish_text(path: Path, text: str) -> None:
    """Writes a text file aside and puts it in place at once.

    Args:
        path: Where it shall be.
        text: Its content, written as UTF-8.
    """
    publish(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))

"""A copy of a collection's definition in its own folder, from which a lost catalogue is rebuilt."""

from __future__ import annotations

import json
import logging
import os
from datetime import datetime
from pathlib import Path

from serving.collections.definition import Definition, spec_from_json, spec_to_json
from serving.collections.durable import sync_path
from serving.errors import Corrupted

__all__ = ["DEFINITION_FILE", "read_definition", "write_definition"]

logger = logging.getLogger(__name__)

DEFINITION_FILE = "definition.json"


def write_definition(folder: Path, definition: Definition) -> None:
    """Writes the copy, whole or not at all; one that is up to date is left alone, and a disk that refuses it is logged.

    Args:
        folder: The collection's.
        definition: What the catalogue knows.
    """
    path = folder / DEFINITION_FILE
    text = json.dumps(
        {
            "spec": json.loads(spec_to_json(definition.spec)),
            "uid": definition.uid,
            "create_time": definition.create_time.isoformat(),
            "update_time": definition.update_time.isoformat(),
        },
        indent=1,
    )
    try:
        if not path.exists() or path.read_text(encoding="utf-8", errors="replace") != text:
            _replace(path, text)
    except OSError as error:
        # The catalogue has it; the next start tries again.
        logger.warning("definition cannot be copied", extra={"folder": str(folder), "detail": str(error)})


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync_path(path.parent)


def read_definition(folder: Path) -> Definition:
    """Reads the copy.

    Args:
        folder: A collection's.

    Returns:
        What the catalogue knew.

    Raises:
        Corrupted: It is missing, or no definition.
    """
    path = folder / DEFINITION_FILE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return Definition(
            spec=spec_from_json(json.dumps(fields["spec"])),
            uid=str(fields["uid"]),
            create_time=datetime.fromisoformat(fields["create_time"]),
            update_time=datetime.fromisoformat(fields["update_time"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Corrupted(f"{path} cannot be read: {error!r:.200}", path=path) from error

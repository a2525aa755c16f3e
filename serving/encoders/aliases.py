"""Further names of encoders: a small file in the bundles folder, so that they outlive the server and move with it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from models.bundle.strict_json import parse_json
from serving.errors import FailedPrecondition, InvalidInput

__all__ = ["ALIASES_FILE", "check_alias", "read_aliases", "write_aliases"]

ALIASES_FILE: Final = "aliases.json"
"""`{"ALIAS": "NAME" or "NAME@VERSION", ...}`."""
_ALIAS: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def check_alias(alias: str) -> None:
    """Refuses what cannot be an alias.

    Args:
        alias: The name.

    Raises:
        InvalidInput: It is none.
    """
    if not _ALIAS.fullmatch(alias):
        raise InvalidInput(
            f"the alias '{alias}' must be 1 to 63 of a-z, 0-9, '.', '_' and '-', and begin with a letter or a digit",
            alias=alias,
        )


def read_aliases(folder: Path) -> Mapping[str, str]:
    """Reads the aliases of a bundles folder.

    Args:
        folder: The bundles folder.

    Returns:
        What each means; empty where there is no file.

    Raises:
        ValueError: The file is damaged.
        OSError: It cannot be read.
    """
    file = folder / ALIASES_FILE
    try:
        values = parse_json(file.read_text(encoding="utf-8"), ALIASES_FILE)
    except FileNotFoundError:
        return {}
    pairs = values.items() if isinstance(values, dict) else [("", None)]
    if not all(_ALIAS.fullmatch(alias) and isinstance(target, str) and target for alias, target in pairs):
        raise ValueError(f'\'{file}\' must hold {{"ALIAS": "NAME@VERSION", ...}}; mend it, or remove it')
    return dict(pairs)


def write_aliases(folder: Path, aliases: Mapping[str, str]) -> None:
    """Writes the aliases, whole or not at all.

    Args:
        folder: The bundles folder.
        aliases: What each means.

    Raises:
        FailedPrecondition: The folder cannot be written.
    """
    file = folder / ALIASES_FILE
    unfinished = folder / f".{ALIASES_FILE}.{os.getpid()}"
    try:
        with unfinished.open("w", encoding="utf-8") as stream:
            json.dump(dict(sorted(aliases.items())), stream, indent=1)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(file)
    except OSError as error:
        raise FailedPrecondition(
            f"'{file}' cannot be written ({error.strerror or error}); make the bundles folder writable for the server"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)

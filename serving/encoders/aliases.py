"""Further names of encoders: a small file in the bundles folder, so that they outlive the server and move with it."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from models.bundle.encoder import EncoderInfo
from models.bundle.strict_json import parse_json
from serving.collections.durable import replace_file
from serving.errors import EncoderNotFound, FailedPrecondition, InvalidInput, StorageFull

__all__ = ["ALIASES_FILE", "point_alias", "read_aliases", "write_aliases"]

ALIASES_FILE: Final = "aliases.json"
"""`{"ALIAS": "NAME" or "NAME@VERSION", ...}`."""
_ALIAS: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def point_alias(
    aliases: Mapping[str, str], alias: str, target: str | None, *, serving: Iterable[EncoderInfo]
) -> Mapping[str, str]:
    """Lets an alias mean an encoder.

    Args:
        aliases: What each means so far.
        alias: The one to point.
        target: A reference or a name; None: the alias is no more.
        serving: The encoders that serve.

    Returns:
        What each means then.

    Raises:
        EncoderNotFound: The target does not serve, or there is no such alias to remove.
        InvalidInput: The alias is no good name, or the target is an alias.
    """
    if not _ALIAS.fullmatch(alias):
        raise InvalidInput(
            f"the alias '{alias}' must be 1 to 63 of a-z, 0-9, '.', '_' and '-', and begin with a letter or a digit",
            alias=alias,
        )
    if target is None:
        if alias not in aliases:
            raise EncoderNotFound(f"there is no alias '{alias}'", alias=alias)
        return {name: meant for name, meant in aliases.items() if name != alias}
    if target in aliases and target != alias:
        raise InvalidInput(
            f"'{target}' is an alias itself; point '{alias}' at '{aliases[target]}'", alias=alias, target=target
        )
    if not any(target in (info.name, info.reference) for info in serving):
        raise EncoderNotFound(f"no encoder '{target}' serves; load it first", encoder=target)
    return {**aliases, alias: target}


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
        StorageFull: The disk has no room; the old aliases stay.
        FailedPrecondition: The folder cannot be written.
    """
    file = folder / ALIASES_FILE
    try:
        replace_file(file, json.dumps(dict(sorted(aliases.items())), indent=1) + "\n")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"no room to write '{file}'; free disk space, then repeat the call") from error
        raise FailedPrecondition(
            f"'{file}' cannot be written ({error.strerror or error}); make the bundles folder writable for the server"
        ) from error

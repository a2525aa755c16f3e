"""From a method's name and what the user sets, to the method's own configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from training.config_json import decode, encode
from training.methods.table import MethodEntry, find_method

__all__ = ["method_config", "parse_settings", "require_method"]


def require_method(name: str, modality: str) -> MethodEntry:
    """Finds a method that reads what is to be trained on.

    Args:
        name: As a user types it.
        modality: `text` or `image`.

    Returns:
        Its entry in the table.

    Raises:
        ValueError: There is none, or it reads something else.
    """
    entry = find_method(name)
    if entry.modality != modality:
        raise ValueError(f"--method {name} learns from {entry.modality}; use: diptych train {entry.modality}")
    return entry


def method_config(entry: MethodEntry, settings: Mapping[str, Any]) -> Any:
    """Builds a method's configuration.

    Args:
        entry: The method.
        settings: What differs from the configuration's defaults, by field name, in JSON's own types.

    Returns:
        The configuration.

    Raises:
        ValueError: There is no such setting, or its value is refused.
    """
    kind = entry.load_config()
    defaults = encode(kind())
    unknown = sorted(set(settings) - set(defaults))
    if unknown:
        offered = ", ".join(
            f"{name.replace('_', '-')} ({value})" for name, value in (defaults | settings).items() if name in defaults
        )
        raise ValueError(f"--set {unknown[0].replace('_', '-')}: {entry.name} has no such setting; it has {offered}")
    try:
        return decode(kind, settings)
    except ValueError as error:
        raise ValueError(f"--set: {error}") from error


def parse_settings(words: Sequence[str]) -> dict[str, Any]:
    """Reads a method's settings as they are typed.

    Args:
        words: `name=value` each; a value is JSON where it can be read as such, else a string.

    Returns:
        Values by field name.

    Raises:
        ValueError: A word has no `=`.
    """
    settings: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ValueError(f"--set {word}: write NAME=VALUE, such as temperature=0.2")
        try:
            settings[name.replace("-", "_")] = json.loads(value)
        except ValueError:
            settings[name.replace("-", "_")] = value
    return settings

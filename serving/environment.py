"""Every setting of the server has an environment twin, `DIPTYCH_` and its name in capitals."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["from_environment", "twin"]

Config = TypeVar("Config")


def _switch(text: str) -> bool:
    switches = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if text.lower() not in switches:
        raise ValueError(text)
    return switches[text.lower()]


PARSERS: dict[type, Callable[[str], object]] = {bool: _switch, int: int, float: float, str: str, Path: Path}


def twin(name: str) -> str:
    """Returns the environment variable of a setting.

    Args:
        name: The field's name.

    Returns:
        For `drain_timeout_s`: `DIPTYCH_DRAIN_TIMEOUT_S`.
    """
    return f"DIPTYCH_{name.upper()}"


def from_environment(config_class: type[Config], environment: Mapping[str, str]) -> Config:
    """Builds a configuration from its defaults and what the environment says otherwise.

    Args:
        config_class: A dataclass whose fields have defaults; nested dataclasses share the one namespace.
        environment: Variables by name; an empty value counts as unset.

    Returns:
        The configuration.

    Raises:
        ValueError: A variable's value does not parse, or the settings contradict each other.
    """
    hints = get_type_hints(config_class)
    settings: dict[str, object] = {}
    for field in fields(config_class):  # type: ignore[arg-type]  # any dataclass; the bound cannot be written
        wanted = hints[field.name]
        if isinstance(wanted, type) and is_dataclass(wanted):
            settings[field.name] = from_environment(wanted, environment)
        elif text := environment.get(twin(field.name), ""):
            settings[field.name] = _parse(twin(field.name), text, wanted)
    return config_class(**settings)


def _parse(variable: str, text: str, wanted: Any) -> object:
    if get_origin(wanted) in (Union, types.UnionType):
        wanted = next(choice for choice in get_args(wanted) if choice is not type(None))
    try:
        return PARSERS[wanted](text)
    except ValueError:
        raise ValueError(f"{variable} ({text!r}) must be of type {wanted.__name__}") from None

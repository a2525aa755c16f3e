"""Run configurations to JSON and back: nested frozen dataclasses, enums, paths and mappings of JSON's own types."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["decode", "differences", "encode"]

T = TypeVar("T")


def encode(value: Any) -> Any:
    """Turns a configuration into JSON's own types.

    Args:
        value: A dataclass, or anything one of its fields may hold.

    Returns:
        Dictionaries, lists, strings, numbers, booleans and None.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (StrEnum, Path)):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    return value


def decode(kind: type[T], values: Mapping[str, Any]) -> T:
    """Builds a dataclass from what `encode` gave.

    Args:
        kind: The dataclass.
        values: Its fields by name; an absent one takes its default.

    Returns:
        The configuration, checked by its own `__post_init__`.

    Raises:
        ValueError: A field is unknown, of a wrong type, or refused.
    """
    hints = typing.get_type_hints(kind)
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # T is a dataclass, which no bound can say
    unknown = sorted(set(values) - names)
    if unknown:
        raise ValueError(f"{kind.__name__} has no field {', '.join(unknown)}; it was written by another version")
    return kind(**{name: _decode_field(hints[name], value, name) for name, value in values.items()})


def differences(left: Any, right: Any, prefix: str = "") -> list[str]:
    """Names the fields in which two encoded configurations differ.

    Args:
        left: What `encode` gave.
        right: Another one.
        prefix: Name of the part that is compared.

    Returns:
        Dotted names with both values, such as `optimiser.learning_rate (0.1, not 0.2)`; empty where they are equal.
    """
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        names = dict.fromkeys([*left, *right])
        return [
            found
            for name in names
            for found in differences(left.get(name), right.get(name), f"{prefix}.{name}" if prefix else str(name))
        ]
    return [] if left == right else [f"{prefix} ({left}, not {right})"]


def _decode_field(hint: Any, value: Any, name: str) -> Any:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    chosen = next(option for option in options if option is not type(None))
    if is_dataclass(chosen) and isinstance(chosen, type):
        return decode(_fitting(options, _require(value, dict, name)), value)
    if isinstance(chosen, type) and issubclass(chosen, (StrEnum, Path)):
        return chosen(_require(value, str, name))
    if typing.get_origin(chosen) is tuple:
        return tuple(_require(value, list, name))
    if chosen is float:
        return float(_require(value, (int, float), name))
    if chosen in (int, str, bool):
        return _require(value, chosen, name)
    return value


def _fitting(options: tuple[Any, ...], values: Mapping[str, Any]) -> type[Any]:
    """Returns the first of several dataclasses that has all the fields; the first of all where none has."""
    kinds: list[type[Any]] = [option for option in options if isinstance(option, type) and is_dataclass(option)]
    known = (kind for kind in kinds if set(values) <= {field.name for field in fields(kind)})
    return next(known, kinds[0])


def _require(value: Any, kind: type | tuple[type, ...], name: str) -> Any:
    wrong_boolean = isinstance(value, bool) and kind is not bool
    if not isinstance(value, kind) or wrong_boolean:
        wanted = " or ".join(option.__name__ for option in (kind if isinstance(kind, tuple) else (kind,)))
        raise ValueError(f"{name} ({value!r}) must be of type {wanted}")
    return value

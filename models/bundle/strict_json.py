"""Reads JSON into frozen dataclasses and takes nothing on trust: a missing, unknown or mistyped field is named.

Fields may be `str`, `int`, `float`, `bool`, `StrEnum`s, other dataclasses, `tuple[X, ...]`, `Mapping[str, X]`,
`X | None` and `Any` (any JSON value).
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

__all__ = ["StrictJsonError", "canonical_json", "decode", "parse_json"]

_T = TypeVar("_T")


class StrictJsonError(ValueError):
    """JSON that does not say what it must; the message names the place."""


def parse_json(text: str, where: str) -> Any:
    """Parses JSON as its standard has it: no NaN, no infinities, no key twice.

    Args:
        text: The JSON.
        where: What to call it in errors.

    Returns:
        The value.

    Raises:
        StrictJsonError: It is not valid.
    """

    def refuse_constant(name: str) -> None:
        raise StrictJsonError(f"{where} holds {name}, which is no JSON number")

    def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if len(set(keys)) != len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise StrictJsonError(f"{where} has the field '{twice}' twice")
        return dict(pairs)

    try:
        return json.loads(text, parse_constant=refuse_constant, object_pairs_hook=refuse_duplicates)
    except (json.JSONDecodeError, RecursionError) as error:
        raise StrictJsonError(f"{where} is no valid JSON: {error}") from error


def canonical_json(value: Any) -> str:
    """Returns the one text of a JSON value that hashes are taken of: keys sorted, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def decode(cls: type[_T], value: Any, where: str) -> _T:
    """Builds a dataclass from a JSON object.

    Args:
        cls: The dataclass.
        value: The parsed object.
        where: Path of the object, for errors, such as `diptych.json`.

    Returns:
        The instance.

    Raises:
        StrictJsonError: A field is missing, unknown or of another type, or the class refuses its values.
    """
    if not isinstance(value, Mapping):
        raise StrictJsonError(f"{where} must be an object, not {_name(value)}")
    hints = get_type_hints(cls)
    known = fields(cast(Any, cls))
    unknown = sorted(set(value) - {field.name for field in known})
    if unknown:
        raise StrictJsonError(f"{where} has the unknown field '{unknown[0]}'; was it written by a newer version?")
    given: dict[str, Any] = {}
    for field in known:
        if field.name in value:
            given[field.name] = _decode_value(hints[field.name], value[field.name], f"{where}: {field.name}")
        elif _is_required(field):
            raise StrictJsonError(f"{where} lacks the field '{field.name}'")
    try:
        return cls(**given)
    except StrictJsonError:
        raise
    except ValueError as error:
        raise StrictJsonError(f"{where}: {error}") from error


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _decode_value(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        (inner,) = (part for part in get_args(hint) if part is not type(None))
        return _decode_value(inner, value, where)
    if get_origin(hint) is tuple:
        return _decode_list(get_args(hint)[0], value, where)
    if get_origin(hint) is Mapping:
        return _decode_mapping(get_args(hint)[1], value, where)
    if is_dataclass(hint):
        return decode(cast(type[Any], hint), value, where)
    return _decode_scalar(hint, value, where)


def _decode_list(hint: Any, value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise StrictJsonError(f"{where} must be a list, not {_name(value)}")
    return tuple(_decode_value(hint, item, f"{where}[{number}]") for number, item in enumerate(value))


def _decode_mapping(hint: Any, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise StrictJsonError(f"{where} must be an object, not {_name(value)}")
    return {key: _decode_value(hint, item, f"{where}['{key}']") for key, item in value.items()}


def _decode_scalar(hint: Any, value: Any, where: str) -> Any:
    if issubclass(hint, StrEnum):
        choices = [str(choice) for choice in hint]
        if value not in choices:
            raise StrictJsonError(f"{where} is {value!r}; it must be one of {', '.join(choices)}")
        return hint(value)
    if hint is float and type(value) is int:
        return float(value)
    # `bool` is an `int` to isinstance; here a true is no 1.
    if type(value) is not hint:
        raise StrictJsonError(f"{where} must be {hint.__name__}, not {_name(value)}")
    return value


def _name(value: Any) -> str:
    return "null" if value is None else type(value).__name__

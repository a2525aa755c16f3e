"""Errors of the domain as JSON, for those that outlive the call they were raised in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serving import errors as error_tree
from serving.errors import Overloaded, ServingError

__all__ = ["error_from_json", "error_to_json"]

_CLASSES: Mapping[str, type[ServingError]] = {
    value.__name__: value
    for value in vars(error_tree).values()
    if isinstance(value, type) and issubclass(value, ServingError)
}


def error_to_json(error: Exception) -> list[Any]:
    """Returns what JSON can hold of an error.

    Args:
        error: Of the domain.

    Returns:
        Its class's name, its message and its metadata.
    """
    return [type(error).__name__, str(error), dict(getattr(error, "metadata", {}))]


def error_from_json(stored: Sequence[Any]) -> ServingError:
    """Returns the error that `error_to_json` wrote.

    Args:
        stored: Name, message, metadata.

    Returns:
        The error, not raised.
    """
    name, message, metadata = stored
    if name == Overloaded.__name__:
        return Overloaded(message, **{**metadata, "retry_after_s": float(metadata["retry_after_s"])})
    return _CLASSES[name](message, **metadata)

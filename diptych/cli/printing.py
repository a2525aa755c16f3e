"""Tables and JSON on stdout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["WIDTH_OF_PIPES", "plain", "print_json", "print_table"]

WIDTH_OF_PIPES = 200
"""Columns of a table that goes to a file or another program, which have no width of their own."""


def plain(value: Any) -> Any:
    """Returns what JSON can hold of a client's value.

    Args:
        value: A number, a string, an array, a time, a place, bytes, or a mapping or sequence of such.

    Returns:
        Arrays as lists; times as `{"timestamp": ISO}`; places by latitude and longitude; bytes as base64.
    """
    import base64
    import dataclasses
    from datetime import datetime

    if isinstance(value, datetime):
        return {"timestamp": value.isoformat()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value) if isinstance(value, Exception) else value


def print_json(value: Any) -> None:
    """Prints a value as JSON, arrays and times included.

    Args:
        value: As for `plain`.
    """
    print(json.dumps(plain(value), ensure_ascii=False, indent=1))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table; numbers to the right.

    Args:
        columns: Headings.
        rows: One cell per heading.
    """
    import sys

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, heading in enumerate(columns):
        is_number = bool(rows) and all(isinstance(row[index], (int, float)) for row in rows)
        table.add_column(heading, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        # As text: what users store must not be read as markup.
        table.add_row(*(Text(_cell(value)) for value in row))
    Console(width=None if sys.stdout.isatty() else WIDTH_OF_PIPES).print(table)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else str(value)

"""Reads texts, images and records from files, for the verbs that send them to a server."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

__all__ = ["RecordInput", "metadata_value", "read_records"]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordInput:
    """One thing read, with the id it goes by."""

    id: str
    content: str | Path | list[float]
    """A text, an image's file, or a vector."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    expire_time: datetime | None = None
    """When the record ends; None: never."""


def read_records(files: Sequence[Path]) -> Iterator[RecordInput]:
    """Reads what files hold, one after the other.

    Args:
        files: Images; `.jsonl` with one object a line: `text`, `image` (a path beside the file) or `vector`, and if it
            likes `id`, `metadata` and `expire_time` (RFC 3339); other files are texts, one a line. Folders are walked,
            hidden files left out. `-` is standard input, one text a line.

    Yields:
        Records; where the file names none, the id is the file's path, with the line's number for lines.

    Raises:
        ValueError: A file is not there, or a line is not what it should be.
    """
    for file in files:
        if str(file) == "-":
            yield from _lines(sys.stdin, "stdin")
        elif file.is_dir():
            yield from _files(sorted(path for path in file.rglob("*") if _shown(path, file)))
        elif file.is_file():
            yield from _files([file])
        else:
            raise ValueError(f"there is no file '{file}'; for a text itself use --text")


def _shown(path: Path, folder: Path) -> bool:
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)


def _files(paths: Iterable[Path]) -> Iterator[RecordInput]:
    for path in paths:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            yield RecordInput(id=str(path), content=path)
            continue
        with path.open(encoding="utf-8") as lines:
            yield from _objects(lines, path) if path.suffix == ".jsonl" else _lines(lines, str(path))


def _lines(lines: Iterable[str], name: str) -> Iterator[RecordInput]:
    for number, line in enumerate(lines, start=1):
        if text := line.strip():
            yield RecordInput(id=f"{name}:{number}", content=text)


def _objects(lines: Iterable[str], path: Path) -> Iterator[RecordInput]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _object(line, path, f"{path}:{number}")


def _object(line: str, path: Path, place: str) -> RecordInput:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{place}: the line is no JSON: {error}") from None
    if isinstance(value, str):
        return RecordInput(id=place, content=value)
    if not isinstance(value, dict):
        raise ValueError(f"{place}: each line must be an object or a string")
    given = [name for name in ("text", "image", "vector") if name in value]
    if len(given) != 1:
        raise ValueError(f"{place}: each object needs exactly one of text, image and vector")
    content = value[given[0]]
    if given[0] == "image":
        content = path.parent / content
    metadata = {name: metadata_value(item) for name, item in value.get("metadata", {}).items()}
    return RecordInput(
        id=str(value.get("id", place)), content=content, metadata=metadata, expire_time=_expire_time(value, place)
    )


def _expire_time(value: Mapping[str, Any], place: str) -> datetime | None:
    text = value.get("expire_time")
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"{place}: expire_time ({text!r}) must be a time with its zone, such as 2030-01-31T12:00:00Z")
    return moment


def metadata_value(value: Any) -> Any:
    """Returns a metadata value; JSON has no times and places, so that objects stand for them.

    Args:
        value: As JSON has it.

    Returns:
        A time or a place for an object that stands for one; else the value itself.
    """
    if isinstance(value, dict) and set(value) == {"timestamp"}:
        return datetime.fromisoformat(value["timestamp"])
    if isinstance(value, dict) and set(value) == {"latitude_deg", "longitude_deg"}:
        from diptych.client.types import GeoPoint

        return GeoPoint(**value)
    return value

"""What the catalogue keeps of a collection."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from serving.collections.config import MAX_DIMENSION
from serving.collections.filters.fields import check_fields
from serving.collections.index.ann.capabilities import check_index
from serving.collections.types import CollectionSpec, FieldDefinition, FieldType, IndexKind, IndexSpec, Metric
from serving.errors import InvalidInput

__all__ = ["Definition", "check_display_name", "check_name", "check_spec", "spec_from_json", "spec_to_json"]

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_MAX_TEXT_BYTES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A collection as the catalogue knows it."""

    spec: CollectionSpec
    uid: str
    """Tells this collection from an earlier one of the same name."""
    create_time: datetime
    update_time: datetime
    """When the definition last changed; writes of records do not count."""

    @property
    def folder_name(self) -> str:
        """Name of its folder: readable, and never that of an earlier collection."""
        return f"{self.spec.name}.{self.uid}"


def check_spec(spec: CollectionSpec) -> None:
    """Refuses a collection that cannot be made.

    Args:
        spec: What the caller asked for.

    Raises:
        InvalidInput: The name, dimension, a text, a field or the index is out of bounds.
    """
    check_name(spec.name)
    if not 1 <= spec.dimension <= MAX_DIMENSION:
        raise InvalidInput(f"dimension ({spec.dimension}) must be in [1, {MAX_DIMENSION}]", dimension=spec.dimension)
    for field, text in (("space", spec.space), ("encoder", spec.encoder)):
        _check_text(field, text)
    check_display_name(spec.display_name)
    check_fields(spec.fields)
    check_index(spec.index, dimension=spec.dimension, metric=spec.metric)


def check_name(name: str) -> None:
    """Refuses what cannot be a collection's name.

    Args:
        name: What the caller asked for.

    Raises:
        InvalidInput: It has other characters, or too many.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"collection name {name!r:.80} must be 1 to 63 characters of a-z, 0-9 and '-', "
            "beginning with a letter and not ending in '-'",
            name=name[:80],
        )


def check_display_name(display_name: str) -> None:
    """Refuses a display name that cannot be shown.

    Args:
        display_name: What the caller asked for.

    Raises:
        InvalidInput: It is too long or holds a control character.
    """
    _check_text("display_name", display_name)


def spec_to_json(spec: CollectionSpec) -> str:
    """Writes a spec as JSON.

    Args:
        spec: Any spec.

    Returns:
        JSON object of its fields.
    """
    fields = asdict(spec)
    if spec.index == IndexSpec.of_kind(spec.index.kind):
        # A word says it all, and earlier versions read it.
        fields["index"] = spec.index.kind.value
    return json.dumps(fields)


def spec_from_json(text: str) -> CollectionSpec:
    """Reads what `spec_to_json` wrote.

    Args:
        text: JSON object.

    Returns:
        The spec.
    """
    stored = json.loads(text)
    fields = tuple(FieldDefinition(field["name"], FieldType(field["type"])) for field in stored.get("fields", ()))
    typed = {"metric": Metric(stored["metric"]), "index": _read_index(stored["index"]), "fields": fields}
    return CollectionSpec(**{**stored, **typed})


def _read_index(stored: str | dict[str, Any]) -> IndexSpec:
    # Before there were specifications, a word was stored.
    return IndexSpec.of_kind(IndexKind(stored)) if isinstance(stored, str) else IndexSpec.from_fields(stored)


def _check_text(field: str, text: str) -> None:
    size_bytes = len(text.encode("utf-8", "replace"))
    if size_bytes > _MAX_TEXT_BYTES:
        raise InvalidInput(f"{field} takes {size_bytes} bytes, more than {_MAX_TEXT_BYTES}", field=field)
    if not text.isprintable():
        raise InvalidInput(f"{field} {text!r:.80} holds characters that cannot be shown", field=field)

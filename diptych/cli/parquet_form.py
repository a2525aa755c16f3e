"""Records as Parquet: columns, and what a file says of the collection it came from.

Columns: `id`, `version`, `vector` (a list of fixed size of float32), `metadata` (JSON, which loses nothing),
`fingerprint`, `expire_time`, with sources `source_type` and `source`; and for reading with other tools a typed column
`metadata.KEY` for the keys that the first records have. The file's metadata names the format, and the collection as
JSON (`diptych.collection`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from diptych.cli.inputs import metadata_value
from diptych.cli.printing import plain

if TYPE_CHECKING:
    from diptych.client.types import Collection, Record

__all__ = [
    "FORMAT",
    "RecordSchema",
    "Told",
    "decode_metadata",
    "encode_metadata",
    "require_pyarrow",
    "schema_for",
    "table_of",
    "told_in",
]

FORMAT = 1
_MOST_PROMOTED = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What a file says of its collection."""

    collection: str
    encoder: str
    space: str
    dimension: int
    metric: str
    index: str
    display_name: str
    retain_sources: bool
    sequence: int
    fields: tuple[tuple[str, str], ...] = ()
    """Declared metadata fields, by name and type; none in files of earlier versions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordSchema:
    """The columns of all shards of one export."""

    schema: Any
    """`pyarrow.Schema`."""
    promoted: Mapping[str, type]
    """Metadata keys with a column of their own, and the type of their values."""
    sources: bool


def require_pyarrow() -> None:
    """Says what is missing before any work is done.

    Raises:
        ValueError: The extra is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise ValueError("Parquet needs an extra: pip install 'diptych[parquet]'") from error


def schema_for(collection: Collection, first: Sequence[Record], *, sources: bool) -> RecordSchema:
    """Chooses the columns.

    Args:
        collection: What is exported.
        first: Its first records, whose metadata says which keys get a column.
        sources: Whether sources are exported.

    Returns:
        The columns.
    """
    import pyarrow as pa

    arrow = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
    arrow |= {datetime: pa.timestamp("us", tz="UTC"), list: pa.list_(pa.string())}
    promoted = _promoted(first, tuple(arrow))
    fields = [
        pa.field("id", pa.string(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("vector", pa.list_(pa.field("item", pa.float32(), nullable=False), collection.dimension)),
        pa.field("metadata", pa.string(), nullable=False),
        pa.field("fingerprint", pa.string()),
        pa.field("expire_time", pa.timestamp("us", tz="UTC")),
        *([pa.field("source_type", pa.string()), pa.field("source", pa.binary())] if sources else []),
        *(pa.field(f"metadata.{key}", arrow[kind]) for key, kind in promoted.items()),
    ]
    told = Told(
        collection=collection.name,
        encoder=collection.encoder,
        space=collection.space,
        dimension=collection.dimension,
        metric=collection.metric,
        index=collection.index,
        display_name=collection.display_name,
        retain_sources=collection.retain_sources,
        sequence=collection.sequence,
        fields=tuple(collection.fields.items()),
    )
    # As an embedding job's shards, beside the whole.
    words = {"format": str(FORMAT), "encoder": told.encoder, "space": told.space, "metric": told.metric}
    words["collection"] = json.dumps(asdict(told))
    metadata = {f"diptych.{name}": value for name, value in words.items()}
    return RecordSchema(schema=pa.schema(fields, metadata=metadata), promoted=promoted, sources=sources)


def table_of(records: Sequence[Record], chosen: RecordSchema) -> Any:
    """Returns records as a table.

    Args:
        records: With vectors and metadata, and with sources where they are exported.
        chosen: The columns.

    Returns:
        `pyarrow.Table`; a value of another type than its column is null there, and whole in `metadata`.
    """
    import numpy as np
    import pyarrow as pa

    rows = [record.vector for record in records if record.vector is not None]
    vector_type = chosen.schema.field("vector").type
    values = pa.array(np.concatenate(rows).astype(np.float32), pa.float32())
    columns: dict[str, Any] = {
        "id": [record.id for record in records],
        "version": [record.version for record in records],
        "vector": pa.FixedSizeListArray.from_arrays(values, type=vector_type),
        "metadata": [encode_metadata(record.metadata) for record in records],
        "fingerprint": [record.fingerprint for record in records],
        "expire_time": [record.expire_time for record in records],
    }
    if chosen.sources:
        columns |= {
            "source_type": [record.source_type or None for record in records],
            "source": [record.source for record in records],
        }
    for key, kind in chosen.promoted.items():
        found = [record.metadata.get(key) for record in records]
        columns[f"metadata.{key}"] = [value if type(value) is kind else None for value in found]
    return pa.table(columns, schema=chosen.schema)


def told_in(schema: Any) -> Told | None:
    """Reads what a file says of its collection.

    Args:
        schema: `pyarrow.Schema`.

    Returns:
        What it says; None of a file that no export made.

    Raises:
        ValueError: A newer diptych wrote it.
    """
    words = schema.metadata or {}
    found = int(words.get(b"diptych.format", b"0"))
    if found > FORMAT:
        raise ValueError(f"the file has format {found}, this diptych reads up to {FORMAT}; upgrade diptych")
    if b"diptych.collection" not in words:
        return None
    told = json.loads(words[b"diptych.collection"])
    fields = tuple((name, kind) for name, kind in told.get("fields", ()))
    return Told(**{name: told[name] for name in Told.__dataclass_fields__ if name != "fields"}, fields=fields)


def encode_metadata(metadata: Mapping[str, Any]) -> str:
    """Writes metadata as JSON that loses nothing.

    Args:
        metadata: A record's.

    Returns:
        Times as `{"timestamp": ISO}`, places by latitude and longitude, infinities as `{"double": "inf"}`.
    """
    return json.dumps(
        {key: _plain(value) for key, value in metadata.items()}, ensure_ascii=False, allow_nan=False, sort_keys=True
    )


def decode_metadata(text: str | None) -> dict[str, Any]:
    """Reads what `encode_metadata` wrote.

    Args:
        text: JSON; None for no metadata.

    Returns:
        Values by key.

    Raises:
        ValueError: It is no JSON object.
    """
    fields = json.loads(text or "{}")
    if not isinstance(fields, dict):
        raise ValueError(f"the column 'metadata' must hold JSON objects, not {text!r:.60}")
    return {key: _value(value) for key, value in fields.items()}


def _plain(value: Any) -> Any:
    return {"double": str(value)} if isinstance(value, float) and math.isinf(value) else plain(value)


def _value(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"double"}:
        return float(value["double"])
    return metadata_value(value)


def _promoted(first: Sequence[Record], kinds: Sequence[type]) -> dict[str, type]:
    seen: dict[str, set[type]] = {}
    for record in first:
        for key, value in record.metadata.items():
            seen.setdefault(key, set()).add(type(value))
    single = {key: next(iter(types)) for key, types in sorted(seen.items()) if len(types) == 1}
    return {key: kind for key, kind in list(single.items())[:_MOST_PROMOTED] if kind in kinds}

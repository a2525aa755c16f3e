"""Holds an index base against the record it was made from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import apsw
import numpy as np

from serving.collections.config import CollectionsConfig
from serving.collections.definition import Definition
from serving.collections.durable import checksum_file
from serving.collections.index.base import INDEX_FILE, MANIFEST_FILE, VECTORS_FILE, Base, open_base
from serving.collections.record_codec import RecordRow
from serving.collections.record_reader import RecordReader
from serving.collections.record_schema import read_sequence
from serving.errors import Corrupted, Unavailable
from serving.maintenance.findings import Tick

__all__ = ["check_index"]

_BATCH_ROWS = 1_024
_MOST_PROBLEMS = 20


def check_index(
    folder: Path, definition: Definition, reader: RecordReader, connection: apsw.Connection, tick: Tick
) -> Iterator[str]:
    """Yields what is wrong with a collection's index.

    Args:
        folder: The index's.
        definition: The collection.
        reader: Reads its record.
        connection: From the reader's `snapshot`.
        tick: Hears how far it is.

    Yields:
        One sentence each, at most 20 for a base.
    """
    for path in sorted(folder.glob("base-*")) if folder.is_dir() else ():
        try:
            base = open_base(path, definition.uid, CollectionsConfig())
        except Corrupted as error:
            yield error.message
            continue
        if base.sequence > read_sequence(connection):
            yield f"{path.name} has reached a sequence that the record has not"
            continue
        damage = list(_damaged_files(base, definition, tick))
        if damage:
            yield from damage
            continue
        yield from islice(_differences(base, definition, reader, connection, tick), _MOST_PROBLEMS)


def _damaged_files(base: Base, definition: Definition, tick: Tick) -> Iterator[str]:
    """Yields the large files that are not what was written: opening a base maps them, and reads the small ones."""
    files = json.loads((base.folder / MANIFEST_FILE).read_text(encoding="utf-8"))["files"]
    for name in (VECTORS_FILE, INDEX_FILE):
        tick(f"index of {definition.spec.name}", 0.0)
        if name in files and checksum_file(base.folder / name) != files[name]["crc32"]:
            yield f"index {base.folder} cannot be used: {name} does not match its checksum"
            return
    try:
        for _ in base.rows.guard.check_all() if base.rows.guard is not None else ():
            pass
    except Unavailable:
        yield f"index {base.folder} cannot be used: {VECTORS_FILE} does not match the checksums of its blocks"


def _differences(
    base: Base, definition: Definition, reader: RecordReader, connection: apsw.Connection, tick: Tick
) -> Iterator[str]:
    keys = base.rows.keys
    if len(keys) > 1 and not np.all(np.diff(keys) > 0):
        yield f"{base.folder.name} does not have its keys in order"
        return
    rows = (row for row in reader.scan(connection, after_key=0) if row.key <= base.sequence)
    done = 0
    while batch := list(islice(rows, _BATCH_ROWS)):
        yield from _batch_differences(base, definition.spec.dimension, batch)
        done += len(batch)
        tick(f"index of {definition.spec.name}", min(1.0, done / max(len(keys), 1)))


def _batch_differences(base: Base, dimension: int, batch: Sequence[RecordRow]) -> Iterator[str]:
    wanted = np.fromiter((row.key for row in batch), dtype=np.int64, count=len(batch))
    places = np.searchsorted(base.rows.keys, wanted)
    for row, place in zip(batch, places.tolist(), strict=True):
        name = row.id.decode("utf-8", "replace")
        if place >= len(base.rows) or base.rows.keys[place] != row.key:
            yield f"{base.folder.name} lacks record {name!r}"
        elif len(row.vector) == 4 * dimension and base.rows.vectors[place].tobytes() != row.vector:
            yield f"{base.folder.name} has another vector for record {name!r}"
        elif base.rows.ids[place].encode("utf-8") != row.id:
            yield f"{base.folder.name} has another id for record {name!r}"
        elif row.version <= base.sequence and base.rows.versions[place] != row.version:
            yield f"{base.folder.name} has another version for record {name!r}"

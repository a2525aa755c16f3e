"""The index at start: the base if it is whole, brought up to date from the record."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import apsw
import numpy as np
from numpy.typing import NDArray

from serving.collections.columns.columns import Columns, places
from serving.collections.columns.load import ColumnScan
from serving.collections.config import CollectionsConfig
from serving.collections.index.base import Base, load_newest_base
from serving.collections.index.live import LiveIndex
from serving.collections.index.tail import Tail
from serving.collections.record_codec import RecordRow, decode_vector
from serving.collections.record_reader import RecordReader
from serving.collections.record_schema import read_sequence
from serving.collections.transaction import AddedVector
from serving.collections.types import CollectionSpec
from serving.errors import Corrupted

__all__ = ["load_index"]

logger = logging.getLogger(__name__)

_LOAD_ROWS = 4_096


def load_index(
    parent: Path,
    *,
    spec: CollectionSpec,
    uid: str,
    reader: RecordReader,
    config: CollectionsConfig,
    from_record: bool = False,
) -> LiveIndex:
    """Returns an index that shows every committed record.

    Where the base is fresh, little is read: what was written after it, and how many records there are.

    Args:
        parent: The collection's index folder.
        spec: The collection.
        uid: The collection's.
        reader: Reads its record.
        config: Search settings.
        from_record: Whether to leave the base alone and read every record into memory.

    Returns:
        The index; exact where the base is missing, damaged, or does not agree with the record.
    """
    base = None if from_record else load_newest_base(parent, uid, config, spec.index)
    with reader.snapshot() as connection:
        sequence = read_sequence(connection)
        changed = reader.changed_since(connection, base.sequence if base is not None else 0)
        versions = None if base is None else _base_versions(base, changed, sequence, reader, connection)
        if base is not None and versions is None:
            logger.warning("index does not agree with the record and will be rebuilt", extra={"collection": spec.name})
            base, changed = None, reader.changed_since(connection, 0)
        after_key = base.sequence if base is not None else 0
        tail, damaged = _read_tail(reader.scan(connection, after_key=after_key), spec.dimension)
        columns = Columns(())
        if spec.fields:
            columns = _read_columns(reader.scan(connection, after_key=0), spec, base, versions, tail, damaged)
    for key, version in _updated(changed, after_key):
        tail.set_version(key, version)
    for key in damaged:
        logger.error("record is damaged", extra={"collection": spec.name, "key": key})
    return LiveIndex(
        spec,
        sequence=sequence,
        base=base,
        versions=versions,
        tail=tail,
        damaged=damaged,
        columns=columns,
        config=config,
    )


def _read_columns(
    rows: Iterable[RecordRow],
    spec: CollectionSpec,
    base: Base | None,
    versions: NDArray[np.int64] | None,
    tail: Tail,
    damaged: dict[int, str],
) -> Columns:
    """Returns the declared fields of the rows; a damaged record of the base is taken out of it."""
    scan = ColumnScan(spec.fields)
    scan.read(rows)
    damaged |= scan.damaged
    base_keys = np.empty(0, dtype=np.int64) if base is None else base.rows.keys
    if versions is not None:
        versions[np.isin(base_keys, list(scan.damaged))] = 0
    scan.columns.arrange(places(scan.keys, base_keys), places(scan.keys, tail.keys()))
    return scan.columns


def _base_versions(
    base: Base, changed: NDArray[np.int64], sequence: int, reader: RecordReader, connection: apsw.Connection
) -> NDArray[np.int64] | None:
    """Returns the versions of the base's records, 0 for those that are gone; `None` where it disagrees."""
    updated = changed[changed[:, 0] <= base.sequence]
    old_count = reader.count(connection) - (len(changed) - len(updated))
    if base.sequence > sequence or old_count > len(base.rows):
        return None
    versions: NDArray[np.int64] = base.rows.versions.copy()
    if old_count < len(base.rows):
        # Some are gone, and only the list of all keys tells which.
        keys = reader.keys(connection)
        places = _places(base, keys[keys <= base.sequence])
        if places is None:
            return None
        gone = np.ones(len(versions), dtype=np.bool_)
        gone[places] = False
        versions[gone] = 0
    places = _places(base, updated[:, 0])
    if places is None:
        return None
    versions[places] = updated[:, 1]
    return versions


def _places(base: Base, keys: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Returns the base's rows of some keys; `None` where it lacks one."""
    places = np.searchsorted(base.rows.keys, keys)
    if np.any(places >= len(base.rows)) or np.any(base.rows.keys[places] != keys):
        return None
    return places


def _updated(changed: NDArray[np.int64], after_key: int) -> Iterable[tuple[int, int]]:
    found = changed[(changed[:, 0] > after_key) & (changed[:, 0] != changed[:, 1])]
    return ((int(key), int(version)) for key, version in found)


def _read_tail(rows: Iterable[RecordRow], dimension: int) -> tuple[Tail, dict[int, str]]:
    tail = Tail(dimension)
    damaged: dict[int, str] = {}
    batch: list[AddedVector] = []
    for row in rows:
        try:
            vector = decode_vector(row, dimension)
            batch.append(AddedVector(row.key, row.id.decode("utf-8"), vector))
        except Corrupted:
            damaged[row.key] = row.id.decode("utf-8", "replace")
        if len(batch) == _LOAD_ROWS:
            tail.append(batch)
            batch = []
    tail.append(batch)
    return tail, damaged

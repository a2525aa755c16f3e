"""Building a base aside: the record is copied out at one sequence, the graph is built from the copy, then published."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from serving.collections.config import CollectionsConfig
from serving.collections.database import read_scalar
from serving.collections.durable import checksum_file, publish_folder, reserve_file
from serving.collections.index.base import BASE_FORMAT, GRAPH_FILE, MANIFEST_FILE, Base, base_folder, open_base
from serving.collections.index.graph import build_graph
from serving.collections.record_codec import RecordRow, decode_vector
from serving.collections.record_reader import RecordReader
from serving.collections.record_schema import read_sequence
from serving.collections.types import CollectionSpec

__all__ = ["build_base"]

_CANCEL_ROWS = 4_096


class _CancelledError(Exception):
    """The build is no longer wanted."""


def build_base(
    parent: Path,
    *,
    spec: CollectionSpec,
    uid: str,
    reader: RecordReader,
    config: CollectionsConfig,
    cancelled: Callable[[], bool],
) -> Base | None:
    """Builds and publishes a base over all records as they stand now.

    Args:
        parent: The collection's index folder.
        spec: The collection.
        uid: The collection's.
        reader: Reads its record.
        config: Build settings.
        cancelled: Asked every few thousand rows.

    Returns:
        The base, or `None` where it was cancelled or there is no record.

    Raises:
        Corrupted: A record does not match its checksum.
        OSError: The disk refused a file.
    """
    draft = parent / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        sequence, record_count = _copy_records(draft, spec.dimension, reader, cancelled)
        if record_count == 0:
            return None
        vectors = np.load(draft / "vectors.npy", mmap_mode="r", allow_pickle=False)
        if not build_graph(vectors, draft / GRAPH_FILE, metric=spec.metric, config=config, cancelled=cancelled):
            return None
        _write_manifest(draft, uid, sequence, record_count)
        final = base_folder(parent, sequence)
        shutil.rmtree(final, ignore_errors=True)
        publish_folder(draft, final)
        return open_base(final, uid, config)
    except _CancelledError:
        return None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _copy_records(draft: Path, dimension: int, reader: RecordReader, cancelled: Callable[[], bool]) -> tuple[int, int]:
    with reader.snapshot() as connection:
        sequence = read_sequence(connection)
        record_count = read_scalar(connection, "SELECT count(*) FROM records")
        if record_count:
            _copy_rows(draft, dimension, record_count, _cancellable(reader.scan(connection, after_key=0), cancelled))
    return sequence, record_count


def _cancellable(rows: Iterator[RecordRow], cancelled: Callable[[], bool]) -> Iterator[RecordRow]:
    for number, row in enumerate(rows):
        if number % _CANCEL_ROWS == 0 and cancelled():
            raise _CancelledError
        yield row


def _copy_rows(draft: Path, dimension: int, record_count: int, rows: Iterator[RecordRow]) -> None:
    vectors = _create(draft, "vectors", np.float32, (record_count, dimension))
    sq_norms = _create(draft, "sq_norms", np.float32, (record_count,))
    keys = _create(draft, "keys", np.int64, (record_count,))
    versions = _create(draft, "versions", np.int64, (record_count,))
    id_ends = _create(draft, "id_ends", np.int64, (record_count,))
    blob = bytearray()
    for number, row in enumerate(rows):
        vectors[number] = vector = decode_vector(row, dimension)
        sq_norms[number] = np.dot(vector.astype(np.float64), vector)
        keys[number], versions[number] = row.key, row.version
        blob += row.id
        id_ends[number] = len(blob)
    np.save(draft / "id_blob.npy", np.frombuffer(blob, dtype=np.uint8), allow_pickle=False)
    for array in (vectors, sq_norms, keys, versions, id_ends):
        array.flush()


def _create(draft: Path, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> Any:
    mapped = np.lib.format.open_memmap(draft / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)
    reserve_file(draft / f"{name}.npy")
    return mapped


def _write_manifest(draft: Path, uid: str, sequence: int, record_count: int) -> None:
    files = {
        path.name: {"size_bytes": path.stat().st_size, "crc32": checksum_file(path)} for path in sorted(draft.iterdir())
    }
    manifest = {
        "format": BASE_FORMAT,
        "uid": uid,
        "sequence": sequence,
        "record_count": record_count,
        "files": files,
    }
    (draft / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2), encoding="utf-8")

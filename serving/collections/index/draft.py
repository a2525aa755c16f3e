"""Building a base aside: the record is copied out at one sequence, the index is built from the copy, then published."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.collections.config import CollectionsConfig
from serving.collections.database import read_scalar
from serving.collections.durable import checksum_file, publish_folder, reserve_file
from serving.collections.index.ann.build import build_ann
from serving.collections.index.ann.choice import Choice, choose
from serving.collections.index.base import (
    BASE_FORMAT,
    CHECKSUMS_FILE,
    INDEX_FILE,
    MANIFEST_FILE,
    Base,
    base_folder,
    built_for,
    open_base,
)
from serving.collections.index.integrity import block_checksums
from serving.collections.record_codec import RecordRow, decode_vector
from serving.collections.record_reader import RecordReader
from serving.collections.record_schema import read_sequence
from serving.collections.types import CollectionSpec, Metric

__all__ = ["build_base"]

_CANCEL_ROWS = 4_096
_COPIED_SHARE = 0.1
"""Of the progress, what copying the records out counts for where an index is built from them."""


class _CancelledError(Exception):
    """The build is no longer wanted."""


def build_base(
    parent: Path,
    *,
    spec: CollectionSpec,
    uid: str,
    reader: RecordReader,
    config: CollectionsConfig,
    progress: Callable[[float], bool],
) -> Base | None:
    """Builds and publishes a base over all records as they stand now.

    Args:
        parent: The collection's index folder.
        spec: The collection.
        uid: The collection's.
        reader: Reads its record.
        config: Build settings.
        progress: Told the share that is done, in [0, 1], every few thousand rows; returns whether to go on.

    Returns:
        The base, or `None` where it was stopped or there is no record.

    Raises:
        Corrupted: A record does not match its checksum.
        OSError: The disk refused a file.
    """
    draft = parent / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        sequence, record_count = _copy_records(draft, spec.dimension, reader, progress)
        if record_count == 0:
            return None
        vectors = np.load(draft / "vectors.npy", mmap_mode="r", allow_pickle=False).view(np.ndarray)
        np.save(draft / CHECKSUMS_FILE, block_checksums(vectors), allow_pickle=False)
        choice = choose(
            spec.index,
            record_count=record_count,
            dimension=spec.dimension,
            metric=spec.metric,
            config=config,
            is_due=True,
        )
        scale = _scale(draft, spec.metric)
        shape = _build_index(draft, vectors, choice, scale, spec=spec, config=config, progress=progress)
        if shape is None:
            return None
        manifest = {
            "uid": uid,
            "sequence": sequence,
            "record_count": record_count,
            "scale": scale,
            "shape": shape,
        }
        _write_manifest(draft, manifest, choice, spec)
        final = base_folder(parent, sequence)
        publish_folder(draft, final)
        base = open_base(final, uid, config, spec.index)
        assert base.rows.guard is not None
        base.rows.guard.trust()
        return base
    except _CancelledError:
        return None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _build_index(
    draft: Path,
    vectors: NDArray[np.float32],
    choice: Choice,
    scale: float,
    *,
    spec: CollectionSpec,
    config: CollectionsConfig,
    progress: Callable[[float], bool],
) -> dict[str, Any] | None:
    if choice.plan is None:
        return {}
    return build_ann(
        vectors,
        draft / INDEX_FILE,
        choice.plan,
        metric=spec.metric,
        scale=scale,
        config=config,
        progress=lambda share: progress(_COPIED_SHARE + (1 - _COPIED_SHARE) * share),
    )


def _scale(draft: Path, metric: Metric) -> float:
    """Returns the factor that brings all vectors to at most unit length, where float16 and float32 hold them."""
    if metric is Metric.COSINE:
        return 1.0
    longest = float(np.sqrt(np.max(np.load(draft / "sq_norms.npy", allow_pickle=False).astype(np.float64))))
    return 1 / longest if longest > 0 else 1.0


def _copy_records(
    draft: Path, dimension: int, reader: RecordReader, progress: Callable[[float], bool]
) -> tuple[int, int]:
    with reader.snapshot() as connection:
        sequence = read_sequence(connection)
        record_count = read_scalar(connection, "SELECT count(*) FROM records")
        if record_count:
            rows = _watched(reader.scan(connection, after_key=0), record_count, progress)
            _copy_rows(draft, dimension, record_count, rows)
    return sequence, record_count


def _watched(rows: Iterator[RecordRow], count: int, progress: Callable[[float], bool]) -> Iterator[RecordRow]:
    for number, row in enumerate(rows):
        if number % _CANCEL_ROWS == 0 and not progress(_COPIED_SHARE * number / count):
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


def _write_manifest(draft: Path, manifest: dict[str, Any], choice: Choice, spec: CollectionSpec) -> None:
    files = {
        path.name: {"size_bytes": path.stat().st_size, "crc32": checksum_file(path)} for path in sorted(draft.iterdir())
    }
    manifest = {
        "format": BASE_FORMAT,
        **manifest,
        "plan": None if choice.plan is None else choice.plan.to_json(),
        "reason": choice.reason,
        "wanted": asdict(built_for(spec.index)),
        "files": files,
    }
    (draft / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2), encoding="utf-8")

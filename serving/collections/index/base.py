"""The base on disk: one folder, published whole, never changed.

`base-SEQUENCE/` holds `vectors.npy`, `vector_checksums.npy`, `sq_norms.npy`, `keys.npy`, `versions.npy`, `id_blob.npy`,
`id_ends.npy`, where it is indexed `index.faiss`, and `manifest.json` with the sequence it has reached, what index it is
and every file's size and CRC-32. The two that are large, the vectors and the index, are mapped at start and compared
with their checksums later: a block of vectors before it is first used, the index by the scrub (its headers and links at
once, since FAISS follows them blindly). All others are compared at start.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.collections.config import CollectionsConfig
from serving.collections.durable import checksum_file
from serving.collections.index.ann.plan import AnnPlan
from serving.collections.index.ann.search import Ann
from serving.collections.index.integrity import VectorGuard, rows_a_block
from serving.collections.index.rows import PackedIds, Rows
from serving.collections.index_types import IndexSpec
from serving.errors import Corrupted

__all__ = [
    "BASE_FORMAT",
    "CHECKSUMS_FILE",
    "INDEX_FILE",
    "MANIFEST_FILE",
    "VECTORS_FILE",
    "Base",
    "base_folder",
    "built_for",
    "load_newest_base",
    "open_base",
    "remove_others",
]

logger = logging.getLogger(__name__)

BASE_FORMAT = 2
MANIFEST_FILE = "manifest.json"
INDEX_FILE = "index.faiss"
VECTORS_FILE = "vectors.npy"
CHECKSUMS_FILE = "vector_checksums.npy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """An immutable index over all records as of one sequence."""

    folder: Path
    sequence: int
    """Every record written up to here is in it, and none written later."""
    rows: Rows
    """All of them, `alive` unset."""
    graph: Ann | None
    """The index; `None`: its rows are compared one by one."""
    reason: str
    """Why this index."""
    wanted: IndexSpec
    """What it was built for, see `built_for`."""
    index_crc32: int | None
    """Of the index's file, where there is one."""


def built_for(spec: IndexSpec) -> IndexSpec:
    """Returns the part of a specification that decides what is built; the rest only steers searches.

    Args:
        spec: As asked for.

    Returns:
        The same, its search settings left to the server.
    """
    return replace(spec, ef_search=0, probes=0, rerank_factor=0.0, target_recall=0.0)


def base_folder(parent: Path, sequence: int) -> Path:
    """Returns the folder of a new base.

    Args:
        parent: The collection's index folder.
        sequence: What the base has reached.

    Returns:
        Path of none that exists; names sort by sequence.
    """
    folder = parent / f"base-{sequence:020d}"
    attempt = 1
    while folder.exists():
        # Another index over the same records: the one in use stays until the new one has taken its place.
        attempt += 1
        folder = parent / f"base-{sequence:020d}-{attempt}"
    return folder


def load_newest_base(parent: Path, uid: str, config: CollectionsConfig, spec: IndexSpec) -> Base | None:
    """Opens the newest base that is whole, and removes all else from the index folder.

    Args:
        parent: The collection's index folder; created where missing.
        uid: The collection's.
        config: Search settings.
        spec: What index the collection is asked to have.

    Returns:
        The base, or `None` where there is none to trust; the record can always rebuild it.
    """
    parent.mkdir(exist_ok=True)
    found: Base | None = None
    for folder in sorted(parent.glob("base-*"), reverse=True):
        try:
            found = open_base(folder, uid, config, spec)
            break
        except Corrupted as error:
            logger.warning(
                "index is damaged and will be rebuilt", extra={"folder": str(folder), "detail": error.message}
            )
    remove_others(parent, found)
    return found


def open_base(folder: Path, uid: str, config: CollectionsConfig, spec: IndexSpec | None = None) -> Base:
    """Opens a base, its large files mapped: sizes, headers, links and all small files are checked.

    Args:
        folder: As published.
        uid: The collection it must belong to.
        config: Search settings.
        spec: How hard to search it, where that was asked for.

    Returns:
        The base.

    Raises:
        Corrupted: A file is missing, of another size or checksum, or the base is another collection's.
    """
    try:
        manifest = _read_manifest(folder, uid)
        _check_files(folder, manifest["files"])
        rows = _map_rows(folder, record_count=manifest["record_count"])
        graph = _map_index(folder, manifest, spec or IndexSpec(), config)
        if graph is not None and len(graph) != len(rows):
            raise ValueError(f"{len(graph)} vectors in the index, {len(rows)} rows")
        index_file = manifest["files"].get(INDEX_FILE, {})
        return Base(
            folder=folder,
            sequence=int(manifest["sequence"]),
            rows=rows,
            graph=graph,
            reason=manifest["reason"],
            wanted=IndexSpec.from_fields(manifest["wanted"]),
            index_crc32=index_file.get("crc32"),
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise Corrupted(f"index {folder} cannot be used: {error}", folder=folder) from error


def remove_others(parent: Path, kept: Base | None) -> None:
    """Removes what is not the base in use; mapped files stay readable to those that have them.

    Args:
        parent: The collection's index folder.
        kept: The base in use.
    """
    for entry in parent.iterdir():
        if kept is None or entry != kept.folder:
            shutil.rmtree(entry, ignore_errors=True)


def _read_manifest(folder: Path, uid: str) -> Mapping[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    if manifest["format"] != BASE_FORMAT:
        # An index of another format is built anew from the record, which outlives every format.
        raise ValueError(f"format {manifest['format']}, not {BASE_FORMAT}")
    if manifest["uid"] != uid:
        raise ValueError("it belongs to another collection")
    return manifest


def _check_files(folder: Path, files: Mapping[str, Mapping[str, int]]) -> None:
    for name, expected in files.items():
        path = folder / name
        if path.stat().st_size != expected["size_bytes"]:
            raise ValueError(f"{name} has {path.stat().st_size} bytes, not {expected['size_bytes']}")
        if name not in (VECTORS_FILE, INDEX_FILE) and checksum_file(path) != expected["crc32"]:
            raise ValueError(f"{name} does not match its checksum")


def _map_rows(folder: Path, *, record_count: int) -> Rows:
    vectors, checksums = _map(folder, "vectors"), _map(folder, "vector_checksums")
    keys = _map(folder, "keys")
    blocks = -(-record_count // rows_a_block(vectors.shape[1]))
    if not (len(vectors) == len(keys) == record_count and len(checksums) == blocks):
        raise ValueError(f"{len(vectors)} vectors, {len(keys)} keys, {len(checksums)} checksums")
    return Rows(
        vectors=vectors,
        sq_norms=_map(folder, "sq_norms"),
        keys=keys,
        # The only array that changes, and only in memory: versions follow metadata updates.
        versions=np.array(_map(folder, "versions")),
        ids=PackedIds(_map(folder, "id_blob"), _map(folder, "id_ends")),
        alive=None,
        guard=VectorGuard(vectors, checksums),
    )


def _map_index(folder: Path, manifest: Mapping[str, Any], spec: IndexSpec, config: CollectionsConfig) -> Ann | None:
    if manifest["plan"] is None:
        return None
    plan = AnnPlan.from_json(manifest["plan"])
    shape, scale = manifest["shape"], float(manifest["scale"])
    return Ann(folder / INDEX_FILE, plan, spec, config, shape=shape, scale=scale)


def _map(folder: Path, name: str) -> NDArray[Any]:
    # A plain view of the mapped memory: the memmap class costs microseconds with every slice.
    mapped: NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    return mapped.view(np.ndarray)

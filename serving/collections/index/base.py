"""The base on disk: one folder, published whole, checked when it is opened, never changed.

`base-SEQUENCE/` holds `vectors.npy`, `sq_norms.npy`, `keys.npy`, `versions.npy`, `id_blob.npy`, `id_ends.npy`,
`graph.faiss`, and `manifest.json` with the sequence it has reached and every file's size and CRC-32.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.collections.config import CollectionsConfig
from serving.collections.durable import checksum_file
from serving.collections.index.graph import Graph
from serving.collections.index.rows import PackedIds, Rows
from serving.errors import Corrupted

__all__ = [
    "BASE_FORMAT",
    "GRAPH_FILE",
    "MANIFEST_FILE",
    "Base",
    "base_folder",
    "load_newest_base",
    "open_base",
    "remove_others",
]

logger = logging.getLogger(__name__)

BASE_FORMAT = 1
MANIFEST_FILE = "manifest.json"
GRAPH_FILE = "graph.faiss"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """An immutable index over all records as of one sequence."""

    folder: Path
    sequence: int
    """Every record written up to here is in it, and none written later."""
    rows: Rows
    """All of them, `alive` unset."""
    graph: Graph


def base_folder(parent: Path, sequence: int) -> Path:
    """Returns the folder of a base.

    Args:
        parent: The collection's index folder.
        sequence: What the base has reached.

    Returns:
        Path; names sort by sequence.
    """
    return parent / f"base-{sequence:020d}"


def load_newest_base(parent: Path, uid: str, config: CollectionsConfig) -> Base | None:
    """Opens the newest base that is whole, and removes all else from the index folder.

    Args:
        parent: The collection's index folder; created where missing.
        uid: The collection's.
        config: Search settings.

    Returns:
        The base, or `None` where there is none to trust; the record can always rebuild it.
    """
    parent.mkdir(exist_ok=True)
    found: Base | None = None
    for folder in sorted(parent.glob("base-*"), reverse=True):
        try:
            found = open_base(folder, uid, config)
            break
        except Corrupted as error:
            logger.warning(
                "index is damaged and will be rebuilt", extra={"folder": str(folder), "detail": error.message}
            )
    remove_others(parent, found)
    return found


def open_base(folder: Path, uid: str, config: CollectionsConfig) -> Base:
    """Opens a base, its files mapped, after checking every byte of them.

    Args:
        folder: As published.
        uid: The collection it must belong to.
        config: Search settings.

    Returns:
        The base.

    Raises:
        Corrupted: A file is missing, of another size or checksum, or the base is another collection's.
    """
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        _check_manifest(manifest, uid)
        _check_files(folder, manifest["files"])
        graph = Graph(folder / GRAPH_FILE, config)
        rows = _map_rows(folder)
        if not len(graph) == len(rows) == manifest["record_count"]:
            raise ValueError(f"{len(graph)} nodes, {len(rows)} rows, {manifest['record_count']} records")
        return Base(folder=folder, sequence=int(manifest["sequence"]), rows=rows, graph=graph)
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


def _check_manifest(manifest: Mapping[str, Any], uid: str) -> None:
    if manifest["format"] != BASE_FORMAT:
        raise ValueError(f"format {manifest['format']}, not {BASE_FORMAT}")
    if manifest["uid"] != uid:
        raise ValueError("it belongs to another collection")


def _check_files(folder: Path, files: Mapping[str, Mapping[str, int]]) -> None:
    for name, expected in files.items():
        path = folder / name
        if path.stat().st_size != expected["size_bytes"]:
            raise ValueError(f"{name} has {path.stat().st_size} bytes, not {expected['size_bytes']}")
        if checksum_file(path) != expected["crc32"]:
            raise ValueError(f"{name} does not match its checksum")


def _map_rows(folder: Path) -> Rows:
    return Rows(
        vectors=_map(folder, "vectors"),
        sq_norms=_map(folder, "sq_norms"),
        keys=_map(folder, "keys"),
        # The only array that changes, and only in memory: versions follow metadata updates.
        versions=np.array(_map(folder, "versions")),
        ids=PackedIds(_map(folder, "id_blob"), _map(folder, "id_ends")),
        alive=None,
    )


def _map(folder: Path, name: str) -> NDArray[Any]:
    # A plain view of the mapped memory: the memmap class costs microseconds with every slice.
    mapped: NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    return mapped.view(np.ndarray)

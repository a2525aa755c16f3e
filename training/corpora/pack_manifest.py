"""`pack.json`: what a pack holds, and the hashes by which an altered or truncated one is seen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from training.publish import publish_json, sync_path

__all__ = ["PackError", "read_kind", "read_manifest", "write_manifest"]

_SCHEMA_VERSION: Final = 1
_MANIFEST: Final = "pack.json"


class PackError(ValueError):
    """A folder that is no pack, is damaged, or is of another kind or version."""


def write_manifest(
    folder: Path, kind: str, *, provenance: Mapping[str, object], described: Mapping[str, object]
) -> None:
    """Hashes and syncs every file of a finished pack and writes its `pack.json`.

    Args:
        folder: The pack, complete but for `pack.json`.
        kind: `text` or `image`.
        provenance: Where the data came from; no part of the fingerprint.
        described: What else the manifest says; part of the fingerprint, as are all files.
    """
    files = {path.name: _describe(path) for path in sorted(folder.iterdir())}
    identity = {"schema_version": _SCHEMA_VERSION, "kind": kind, **described, "files": files}
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    publish_json(folder / _MANIFEST, {"fingerprint": fingerprint, "provenance": provenance, **identity})


def read_manifest(folder: Path, kind: str, *, verify: bool = True) -> dict[str, Any]:
    """Reads a pack's `pack.json` and checks the pack against it.

    Args:
        folder: The pack.
        kind: What it must be, `text` or `image`.
        verify: Whether the files' bytes are hashed too, about a second a gigabyte; sizes are always compared.

    Returns:
        The parsed manifest.

    Raises:
        PackError: It is no pack, of another kind or version, or altered; the message names the file.
    """
    manifest = _parse(folder)
    if manifest.get("kind") != kind:
        raise PackError(f"{folder} is a pack of kind {manifest.get('kind')}, where one of kind {kind} is needed")
    for name, expected in manifest["files"].items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else -1
        if size != expected["bytes"]:
            found = "is missing" if size < 0 else f"has {size:,} bytes, not {expected['bytes']:,}"
            raise PackError(f"{path} {found}: the pack is damaged; pack the data again")
        if verify and _sha256(path) != expected["sha256"]:
            raise PackError(f"{path} was altered since it was packed (its sha256 differs); pack the data again")
    return manifest


def read_kind(folder: Path) -> str:
    """Reads what a pack holds, without checking its files.

    Args:
        folder: The pack.

    Returns:
        `text` or `image`.

    Raises:
        PackError: It is no pack, or of another version.
    """
    return str(_parse(folder).get("kind"))


def _parse(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PackError(f"{folder} is no pack (it has no {_MANIFEST}); make one with: diptych data pack") from error
    except ValueError as error:
        raise PackError(f"{folder / _MANIFEST} cannot be read ({error}); pack the data again") from error
    if not isinstance(manifest, dict) or manifest.get("schema_version") != _SCHEMA_VERSION:
        version = manifest.get("schema_version") if isinstance(manifest, dict) else None
        raise PackError(
            f"{folder} has pack schema {version}, this version reads {_SCHEMA_VERSION}; pack the data again"
        )
    return manifest


def _describe(path: Path) -> dict[str, object]:
    sync_path(path)
    return {"sha256": _sha256(path), "bytes": path.stat().st_size}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

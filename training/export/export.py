"""Turns a training run, or a model directory, into a sealed bundle: whole and proved, or not at all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.bundle.manifest import MANIFEST_FILE, Manifest
from training.corpora.publish import publish_folder, staging_folder, sync_file
from training.export.seal import seal
from training.export.source import ExportConfig, ExportSource

__all__ = ["default_name", "export_directory", "export_run", "export_source"]


def export_run(
    run_dir: Path,
    bundle_dir: Path,
    *,
    name: str | None = None,
    precisions: Sequence[str] = ("fp32",),
    results: Sequence[Mapping[str, Any]] | None = None,
    config: ExportConfig | None = None,
) -> Manifest:
    """Exports a training run.

    Args:
        run_dir: A run folder.
        bundle_dir: The bundle to make; its last part is the encoder's name unless `name` says otherwise.
        name: What the encoder is called in requests.
        precisions: Graphs to make; fp32 is always made.
        results: Rows of evaluation results to carry along.
        config: Everything else; the three above take precedence.

    Returns:
        The bundle's manifest.

    Raises:
        ValueError: The run cannot be read, `bundle_dir` is taken, or the graph does not reproduce torch.
    """
    from training.export.run_source import read_run

    used = _merge(config, name=name, precisions=precisions, results=results)
    _require_free(Path(bundle_dir), overwrite=used.overwrite)
    return export_source(read_run(Path(run_dir)), Path(bundle_dir), used)


def export_directory(
    st_dir: Path,
    bundle_dir: Path,
    *,
    name: str | None = None,
    precisions: Sequence[str] = ("fp32",),
    results: Sequence[Mapping[str, Any]] | None = None,
    config: ExportConfig | None = None,
) -> Manifest:
    """Exports a Hugging Face or sentence-transformers directory as it is.

    Args:
        st_dir: The directory; weights in safetensors, and a fast tokenizer's `tokenizer.json`.
        bundle_dir: As in `export_run`.
        name: As in `export_run`.
        precisions: As in `export_run`.
        results: As in `export_run`.
        config: As in `export_run`.

    Returns:
        The bundle's manifest.

    Raises:
        ValueError: The directory cannot be read, `bundle_dir` is taken, or the graph does not reproduce torch.
    """
    from training.export.directory_source import read_directory

    used = _merge(config, name=name, precisions=precisions, results=results)
    _require_free(Path(bundle_dir), overwrite=used.overwrite)
    return export_source(read_directory(Path(st_dir)), Path(bundle_dir), used)


def export_source(source: ExportSource, bundle_dir: Path, config: ExportConfig) -> Manifest:
    """Seals an encoder beside its destination and publishes it in one step; a failure leaves nothing behind.

    Args:
        source: What is exported.
        bundle_dir: The bundle to make.
        config: How.

    Returns:
        The bundle's manifest.

    Raises:
        ValueError: `bundle_dir` is taken, or the graph does not reproduce torch.
    """
    _require_free(bundle_dir, overwrite=config.overwrite)
    with staging_folder(bundle_dir) as staging:
        manifest = seal(source, staging, name=config.name or default_name(bundle_dir), config=config)
        for file in staging.rglob("*"):
            if file.is_file():
                sync_file(file)
        _publish(staging, bundle_dir)
    return manifest


def default_name(bundle_dir: Path) -> str:
    """Returns the encoder's name where none is given: the folder's, in lower case, other characters as dashes.

    Args:
        bundle_dir: The bundle's folder.

    Returns:
        A name that the manifest allows.
    """
    name = re.sub(r"[^a-z0-9._-]+", "-", bundle_dir.resolve().name.lower()).lstrip("._-")
    return name[:63] or "encoder"


def _merge(
    config: ExportConfig | None,
    *,
    name: str | None,
    precisions: Sequence[str],
    results: Sequence[Mapping[str, Any]] | None,
) -> ExportConfig:
    base = config or ExportConfig()
    return replace(
        base,
        name=name if name is not None else base.name,
        precisions=tuple(dict.fromkeys((*precisions, *base.precisions))),
        results=tuple(results) if results is not None else base.results,
    )


def _require_free(bundle_dir: Path, *, overwrite: bool) -> None:
    if not bundle_dir.exists() or (bundle_dir.is_dir() and not any(bundle_dir.iterdir())):
        return
    if not (bundle_dir / MANIFEST_FILE).is_file():
        raise ValueError(f"'{bundle_dir}' exists and is no bundle; choose another place, it will not be replaced")
    if not overwrite:
        raise ValueError(f"the bundle '{bundle_dir}' exists; choose another place or give --overwrite")


def _publish(staging: Path, bundle_dir: Path) -> None:
    if not (bundle_dir / MANIFEST_FILE).is_file():
        publish_folder(staging, bundle_dir)
        return
    with staging_folder(bundle_dir) as aside:
        replaced = aside / "replaced"
        bundle_dir.rename(replaced)
        try:
            publish_folder(staging, bundle_dir)
        except BaseException:
            replaced.rename(bundle_dir)
            raise

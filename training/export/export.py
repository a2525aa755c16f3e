"""Turns a training run, or a model directory, into a sealed bundle: whole and proved, or not at all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.bundle.manifest import MANIFEST_FILE, Manifest
from training.export.directory_source import read_directory
from training.export.run_source import is_run, read_run
from training.export.seal import seal
from training.export.source import ExportConfig, ExportSource
from training.export.weights_source import WeightsFile, read_weights
from training.publish import publish_folder, staging_folder, sync_path

__all__ = ["default_name", "export_directory", "export_run", "export_source", "read_source", "require_free"]


def export_run(
    run_dir: Path,
    bundle_dir: Path,
    *,
    name: str | None = None,
    precisions: Sequence[str] = ("fp32",),
    results: Sequence[Mapping[str, Any]] | None = None,
) -> Manifest:
    """Exports a training run; `export_source` takes every other setting.

    Args:
        run_dir: A run folder.
        bundle_dir: The bundle to make; its last part is the encoder's name unless `name` says otherwise.
        name: What the encoder is called in requests.
        precisions: Graphs to make; fp32 is always made.
        results: Rows of evaluation results to carry along.

    Returns:
        The bundle's manifest.

    Raises:
        ValueError: The run cannot be read, `bundle_dir` is taken, or the graph does not reproduce torch.
    """
    config = ExportConfig(name=name, precisions=tuple(precisions), results=tuple(results or ()))
    require_free(Path(bundle_dir), overwrite=False)
    return export_source(read_run(Path(run_dir)), Path(bundle_dir), config)


def export_directory(
    st_dir: Path,
    bundle_dir: Path,
    *,
    name: str | None = None,
    precisions: Sequence[str] = ("fp32",),
    results: Sequence[Mapping[str, Any]] | None = None,
) -> Manifest:
    """Exports a Hugging Face or sentence-transformers directory as it is; `export_source` takes every other setting.

    Args:
        st_dir: The directory; weights in safetensors, and a fast tokenizer's `tokenizer.json`.
        bundle_dir: As in `export_run`.
        name: As in `export_run`.
        precisions: As in `export_run`.
        results: As in `export_run`.

    Returns:
        The bundle's manifest.

    Raises:
        ValueError: The directory cannot be read, `bundle_dir` is taken, or the graph does not reproduce torch.
    """
    config = ExportConfig(name=name, precisions=tuple(precisions), results=tuple(results or ()))
    require_free(Path(bundle_dir), overwrite=False)
    return export_source(read_directory(Path(st_dir)), Path(bundle_dir), config)


def read_source(path: Path, weights: WeightsFile | None = None, *, image_size_px: int | None = None) -> ExportSource:
    """Reads a run folder, a model directory or a file of weights, whichever it is.

    Args:
        path: The folder or file.
        weights: What the file of weights does not say of itself; None for folders.
        image_size_px: Side of the square that a run's image encoder is to read, where not that of its training.

    Returns:
        What is to be exported.

    Raises:
        ValueError: It is none of them, weights are not described, or it reads no images of that size.
    """
    if path.is_file():
        if weights is None:
            raise ValueError(f"'{path}' is a file of weights: name its --architecture, such as resnet50")
        return read_weights(path, weights)
    if weights is not None:
        raise ValueError(f"--architecture is for a file of weights; '{path}' is none")
    if is_run(path):
        return read_run(path, image_size_px=image_size_px)
    if image_size_px is not None:
        raise ValueError(f"--size-px ({image_size_px}) is for an image run or a file of weights; '{path}' is neither")
    return read_directory(path)


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
    require_free(bundle_dir, overwrite=config.overwrite)
    with staging_folder(bundle_dir) as staging:
        manifest = seal(source, staging, name=config.name or default_name(bundle_dir), config=config)
        for file in staging.rglob("*"):
            if file.is_file():
                sync_path(file)
        _publish(staging, bundle_dir)
    return manifest


def require_free(bundle_dir: Path, *, overwrite: bool) -> None:
    """Refuses a destination that is taken, before any work is done for it.

    Args:
        bundle_dir: Where the bundle is to be.
        overwrite: Whether a bundle there may be replaced; anything else there never is.

    Raises:
        ValueError: It is taken.
    """
    if not bundle_dir.exists() or (bundle_dir.is_dir() and not any(bundle_dir.iterdir())):
        return
    if not (bundle_dir / MANIFEST_FILE).is_file():
        raise ValueError(f"'{bundle_dir}' exists and is no bundle; choose another place, it will not be replaced")
    if not overwrite:
        raise ValueError(f"the bundle '{bundle_dir}' exists; choose another place or give --overwrite")


def default_name(bundle_dir: Path) -> str:
    """Returns the encoder's name where none is given: the folder's, in lower case, other characters as dashes.

    Args:
        bundle_dir: The bundle's folder.

    Returns:
        A name that the manifest allows.
    """
    name = re.sub(r"[^a-z0-9._-]+", "-", bundle_dir.resolve().name.lower()).lstrip("._-")
    return name[:63] or "encoder"


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

"""Reads a training run as something to export."""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path
from typing import Final

from models.bundle.encoder import Modality
from models.bundle.manifest import Limits, Prompts, Provenance
from models.bundle.tokens import Tokenizer
from models.config import ImageEncoderConfig, TextEncoderConfig
from models.image.served import ServedImageEncoder
from models.text.served import ServedTextEncoder
from training.corpora.image_pack import ImagePack
from training.corpora.splits import Split
from training.corpora.text_pack import TextPack
from training.export.image_files import write_image_files
from training.export.samples import CALIBRATION_COUNT, sample_images, sample_texts
from training.export.source import ExportSource, ReferenceSample, library_versions
from training.export.text_files import write_text_files
from training.run_folder import LoadedRun, load_run

__all__ = ["is_run", "read_run"]

logger = logging.getLogger(__name__)

_SAMPLE_TEXTS: Final = 512
_SAMPLE_IMAGES: Final = 256


def is_run(path: Path) -> bool:
    """Tells a run folder from a model directory, which has a `config.json` too.

    Args:
        path: A folder.

    Returns:
        Whether its `config.json` is a training run's.
    """
    try:
        values = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and "run" in values and "schema_version" in values


def read_run(run_dir: Path, *, image_size_px: int | None = None) -> ExportSource:
    """Loads a run's encoder and what belongs to it.

    Args:
        run_dir: The run folder.
        image_size_px: Side of the square that an image encoder is to read, where not that of its training.

    Returns:
        What is to be exported; with a reference sample where the run's pack is still where it was.

    Raises:
        ValueError: There is no finished run, or it reads no images of that size.
    """
    run = load_run(run_dir, image_size_px=image_size_px)
    stated = dict(run.provenance)
    stated["versions"] = {**library_versions(), **stated.get("versions", {})}
    provenance = Provenance(**stated)
    if run.modality is Modality.TEXT:
        return _read_text(run, provenance)
    return _read_image(run, provenance)


def _read_text(run: LoadedRun, provenance: Provenance) -> ExportSource:
    served, config, tokenizer = run.served, run.encoder, run.tokenizer
    if not isinstance(served, ServedTextEncoder) or not isinstance(config, TextEncoderConfig) or tokenizer is None:
        raise ValueError(f"the run in '{run.path}' lacks a part of a sentence encoder; train it again")
    return ExportSource(
        modality=Modality.TEXT,
        served=served,
        preparation=tokenizer,
        limits=Limits(max_tokens=config.max_tokens),
        pooling=str(config.pooling),
        metric="cosine" if config.normalize else "inner_product",
        prompts=Prompts(),
        provenance=provenance,
        write_files=partial(_write_text, served, config, tokenizer),
        reference=_sample(run, Split.VALIDATION, _SAMPLE_TEXTS),
        calibration=partial(_sample, run, Split.TRAIN, CALIBRATION_COUNT),
    )


def _read_image(run: LoadedRun, provenance: Provenance) -> ExportSource:
    served, config, preprocessing = run.served, run.encoder, run.preprocessing
    if not isinstance(served, ServedImageEncoder) or not isinstance(config, ImageEncoderConfig) or not preprocessing:
        raise ValueError(f"the run in '{run.path}' lacks a part of an image encoder; train it again")
    return ExportSource(
        modality=Modality.IMAGE,
        served=served,
        preparation=preprocessing,
        limits=Limits(image_size_px=preprocessing.size_px),
        pooling="backbone",
        metric="cosine",
        prompts=Prompts(),
        provenance=provenance,
        write_files=partial(write_image_files, config, preprocessing),
        reference=_sample(run, Split.VALIDATION, _SAMPLE_IMAGES),
        calibration=partial(_sample, run, Split.TRAIN, CALIBRATION_COUNT),
    )


def _write_text(
    served: ServedTextEncoder, config: TextEncoderConfig, tokenizer: Tokenizer, folder: Path, prompts: Prompts
) -> None:
    write_text_files(folder, served, config, tokenizer=tokenizer, prompts=prompts)


def _sample(run: LoadedRun, split: Split, count: int) -> ReferenceSample | None:
    """Samples the run's data; a bundle without reference statistics is better than none."""
    try:
        items = _take(run, split, count)
    except (OSError, ValueError) as error:
        logger.warning("no reference statistics", extra={"pack": str(run.data_path), "detail": str(error)})
        return None
    source = f"{split} split of pack {run.data_fingerprint[:12]}"
    return ReferenceSample(items=items, source=source) if len(items) >= 2 else None


def _take(run: LoadedRun, split: Split, count: int) -> list[str | bytes]:
    pack = (TextPack if run.modality is Modality.TEXT else ImagePack).open(run.data_path, verify=False)
    if pack.fingerprint != run.data_fingerprint:
        raise ValueError(f"'{run.data_path}' now holds another pack than the run was trained on")
    return sample_texts(pack, split, count) if isinstance(pack, TextPack) else sample_images(pack, split, count)

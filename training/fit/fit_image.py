"""Trains an image encoder from a configuration: pack, encoder, method, run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from models.bundle.encoder import Modality
from training.batches.image_batches import ImageFeed
from training.config import SCHEMA_VERSION
from training.config_json import encode
from training.corpora.image_pack import ImagePack
from training.corpora.pack_source import pack_image_source
from training.corpora.splits import Split
from training.fit.evaluator import Evaluator
from training.fit.fit import FitResult, Sitting, is_first_process, train
from training.fit.generations import fit_generations, plan_generations
from training.fit.image_training import ImageTraining, build_image_training
from training.fit.knn_evaluator import NeighbourEvaluator
from training.fit.method_settings import require_method
from training.fit.reporting import Reporter, SilentReporter
from training.publish import publish_text
from training.run_config import ImageRunConfig
from training.run_folder import RunFolder

__all__ = ["fit_image"]

_MANIFEST = "pack.json"


def fit_image(
    config: ImageRunConfig, *, reporter: Reporter | None = None, resume: bool = False, overwrite: bool = False
) -> FitResult:
    """Trains an image encoder and leaves it in its run folder.

    A method that learns from a teacher, and is given none, is trained in generations, which are runs of their own.

    Args:
        config: What is asked for; `data` may also be a folder of images or a packaged set's name, which is then packed
            into the run's folder at the encoder's size.
        reporter: Is told how it goes; silent by default.
        resume: Whether the unfinished run in the folder is to go on.
        overwrite: Whether a run that is there may be replaced.

    Returns:
        Where the run lies, and its latest figures.

    Raises:
        ValueError: Configuration, data and folder do not go together; the run collapsed or diverged.
    """
    reporter = reporter or SilentReporter()
    entry = require_method(config.method, Modality.IMAGE)
    if not entry.load().needs.teacher or config.teacher is not None:
        return _fit_one(config, reporter, resume=resume, overwrite=overwrite)
    return fit_generations(
        plan_generations(config, packed=_is_pack(config.data)),
        lambda run, goes_on: _fit_one(run, reporter, resume=goes_on),
        reporter=reporter,
        resume=resume,
        overwrite=overwrite,
    )


def _fit_one(config: ImageRunConfig, reporter: Reporter, *, resume: bool, overwrite: bool = False) -> FitResult:
    run = RunFolder(config.out)
    if is_first_process():
        run.begin(source=config.data, resume=resume, overwrite=overwrite)
    pack = _open_pack(config, run, reporter)
    training = build_image_training(config, pack)
    if is_first_process() and training.feed.labels is not None:
        _note_labels(run, pack, training.feed)
    sitting = Sitting(
        run=run,
        record=_record(config, pack, training),
        kept=training.encoder,
        evaluator=_evaluator(pack, training),
        reporter=reporter,
        resume=resume,
    )
    return train(training.method, training.feed, config.fit, sitting)


def _is_pack(data: Path) -> bool:
    return (data / _MANIFEST).is_file()


def _open_pack(config: ImageRunConfig, run: RunFolder, reporter: Reporter) -> ImagePack:
    if _is_pack(config.data):
        return ImagePack.open(config.data)
    if not run.pack.is_dir():
        _, quarantine = pack_image_source(str(config.data), run.pack, size_px=config.encoder.image_size_px)
        if quarantine.images:
            reporter.note(f"{quarantine.summary()}; listed in {run.pack / 'quarantine.json'}")
    return ImagePack.open(run.pack)


def _note_labels(run: RunFolder, pack: ImagePack, feed: ImageFeed) -> None:
    """Writes down which images' labels the method is shown."""
    labels = np.asarray(feed.labels)
    shown = feed.indices[labels >= 0].tolist()
    publish_text(run.labelled, json.dumps({"pack": pack.fingerprint, "images": shown}) + "\n")


def _evaluator(pack: ImagePack, training: ImageTraining) -> Evaluator | None:
    """Returns k-NN from training to validation images, where both have labels."""
    if pack.labels is None:
        return None
    labels = pack.labels
    bank, queries = (found[labels[found] >= 0] for found in (pack.indices(Split.TRAIN), pack.indices(Split.VALIDATION)))
    if not len(bank) or not len(queries):
        return None
    return NeighbourEvaluator(
        source=pack,
        encoder=training.encoder,
        preprocessing=training.preprocessing,
        labels=labels,
        bank=bank,
        queries=queries,
    )


def _record(config: ImageRunConfig, pack: ImagePack, training: ImageTraining) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "modality": str(Modality.IMAGE),
        "run": encode(config),
        "method": encode(training.settings),
        "encoder": config.encoder.to_json(),
        "preprocessing": training.preprocessing.to_config(),
        "data": {
            "path": str(pack.path.absolute()),
            "fingerprint": pack.fingerprint,
            "classes": list(pack.label_names),
        },
    }

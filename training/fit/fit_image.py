"""Trains an image encoder from a configuration: pack, encoder, method, run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.bundle.encoder import Modality
from models.bundle.preprocessing import ImagePreprocessing, Resize
from models.config import ImageEncoderConfig, Normalization
from models.image.build import build_image_encoder, load_image_weights
from models.image.encoder import ImageEncoder
from training.batches.image_batches import ImageFeed
from training.config import SCHEMA_VERSION, ImageRunConfig, LabelConfig
from training.config_json import encode
from training.corpora.image_pack import ImagePack
from training.corpora.pack_source import pack_image_source
from training.corpora.splits import Split
from training.corpora.withheld_labels import withhold_labels
from training.fit.evaluator import Evaluator
from training.fit.fit import FitResult, Sitting, is_first_process, train
from training.fit.knn_evaluator import NeighbourEvaluator
from training.fit.method_settings import method_config, require_method
from training.fit.reporting import Reporter, SilentReporter
from training.fit.run_folder import RunFolder
from training.fit.streams import Streams
from training.methods.base import Method, MethodContext, Needs
from training.publish import publish_text

__all__ = ["fit_image"]

_MANIFEST = "pack.json"


def fit_image(
    config: ImageRunConfig, *, reporter: Reporter | None = None, resume: bool = False, overwrite: bool = False
) -> FitResult:
    """Trains an image encoder and leaves it in its run folder.

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
    size_px = config.encoder.image_size_px
    settings = method_config(entry, config.settings)
    run = RunFolder(config.out)
    if is_first_process():
        run.begin(source=config.data, resume=resume, overwrite=overwrite)
    pack = _open_pack(config, run, reporter)
    preprocessing = _preprocessing(pack, config)
    data = _training_images(entry.load().needs, pack, config)
    context = MethodContext(
        dataset_size=len(data.indices),
        batch_size=config.batch_size * config.fit.device.devices,
        image_size_px=size_px,
        class_count=0 if data.labels is None else len(pack.label_names),
    )
    encoder = _encoder(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Streams(config.fit.loop.seed).number("heads"))
        method: Method = entry.load()(encoder, settings, context=context)
    feed = ImageFeed(
        source=pack,
        indices=data.indices,
        views=method.views(),
        preprocessing=preprocessing,
        images_per_step=config.batch_size,
        labels=data.labels,
        support=method.support(),
    )
    if is_first_process() and data.labels is not None:
        shown = data.indices[data.labels >= 0].tolist()
        publish_text(run.labelled, json.dumps({"pack": pack.fingerprint, "images": shown}) + "\n")
    sitting = Sitting(
        run=run,
        record=_record(config, pack, preprocessing, settings),
        kept=encoder,
        evaluator=_evaluator(pack, encoder, preprocessing),
        reporter=reporter,
        resume=resume,
    )
    return train(method, feed, config.fit, sitting)


def _open_pack(config: ImageRunConfig, run: RunFolder, reporter: Reporter) -> ImagePack:
    if (config.data / _MANIFEST).is_file():
        return ImagePack.open(config.data)
    if not run.pack.is_dir():
        _, quarantine = pack_image_source(str(config.data), run.pack, size_px=config.encoder.image_size_px)
        if quarantine.images:
            reporter.note(f"{quarantine.summary()}; listed in {run.pack / 'quarantine.json'}")
    return ImagePack.open(run.pack)


def _preprocessing(pack: ImagePack, config: ImageRunConfig) -> ImagePreprocessing:
    """Returns how served images are prepared: as the pack's were, and normalised as the weights want it."""
    red, green, blue = (int(value) for value in pack.manifest["background"])
    normalization = config.normalization
    if normalization is None:
        # From scratch too, so that what goes on from such a run sees the pixels that the run saw.
        lite = config.encoder.architecture == "efficientnet-lite0"
        normalization = Normalization.SYMMETRIC if lite else Normalization.IMAGENET
    return ImagePreprocessing(
        size_px=config.encoder.image_size_px,
        resize=Resize(pack.manifest["resize"]),
        background=(red, green, blue),
        mean=normalization.mean,
        std=normalization.std,
    )


def _encoder(config: ImageRunConfig) -> ImageEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Streams(config.fit.loop.seed).number("weights"))
        encoder = build_image_encoder(config.encoder)
    if config.init is not None:
        load_image_weights(encoder, config.init)
    # With channels last, as the feed's views are, convolutions take a fifth less time on a CPU.
    return encoder.to(memory_format=torch.channels_last).freeze(config.freeze)


@dataclass(frozen=True, slots=True)
class _TrainingImages:
    indices: NDArray[np.int64]
    """Numbers in the pack."""
    labels: NDArray[np.int64] | None
    """What the method may see of their labels; None where it needs none."""


def _training_images(needs: Needs, pack: ImagePack, config: ImageRunConfig) -> _TrainingImages:
    indices = pack.indices(Split.TRAIN)
    if not needs.labels:
        if config.labels != LabelConfig():
            raise ValueError(f"--labels-per-class, --label-fraction: --method {config.method} uses no labels")
        return _TrainingImages(indices, None)
    if pack.labels is None:
        raise ValueError(f"--method {config.method} needs labels, and {pack.path} has none; name folders by class")
    labels = withhold_labels(pack.labels[indices], config.labels)
    shown = labels >= 0
    return _TrainingImages(indices[shown], labels[shown]) if needs.every_label else _TrainingImages(indices, labels)


def _evaluator(pack: ImagePack, encoder: ImageEncoder, preprocessing: ImagePreprocessing) -> Evaluator | None:
    """Returns k-NN from training to validation images, where both have labels."""
    if pack.labels is None:
        return None
    labels = pack.labels
    bank, queries = (found[labels[found] >= 0] for found in (pack.indices(Split.TRAIN), pack.indices(Split.VALIDATION)))
    if not len(bank) or not len(queries):
        return None
    return NeighbourEvaluator(
        source=pack, encoder=encoder, preprocessing=preprocessing, labels=labels, bank=bank, queries=queries
    )


def _record(
    config: ImageRunConfig, pack: ImagePack, preprocessing: ImagePreprocessing, settings: Any
) -> dict[str, Any]:
    encoder: ImageEncoderConfig = config.encoder
    return {
        "schema_version": SCHEMA_VERSION,
        "modality": str(Modality.IMAGE),
        "run": encode(config),
        "method": encode(settings),
        "encoder": encoder.to_json(),
        "preprocessing": preprocessing.to_config(),
        "data": {"path": str(pack.path.absolute()), "fingerprint": pack.fingerprint},
    }

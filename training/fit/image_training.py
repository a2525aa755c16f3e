"""From a configuration and a pack to what is trained: encoder, method and feed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.bundle.encoder import Modality
from models.bundle.preprocessing import ImagePreprocessing, Resize
from models.config import Normalization
from models.image.build import build_image_encoder, load_image_weights
from models.image.encoder import ImageEncoder
from training.batches.image_batches import ImageFeed
from training.corpora.image_pack import ImagePack
from training.corpora.splits import Split
from training.corpora.withheld_labels import withhold_labels
from training.fit.method_settings import method_config, require_method
from training.fit.teacher import predict_classes
from training.methods.base import Method, MethodContext, Needs
from training.run_config import ImageRunConfig, LabelConfig
from training.streams import Streams

__all__ = ["ImageTraining", "build_image_training", "count_training_images"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageTraining:
    """Everything that a run needs, before its first step."""

    method: Method
    encoder: ImageEncoder
    """The method's, which is kept."""
    settings: Any
    """The method's, complete."""
    feed: ImageFeed
    preprocessing: ImagePreprocessing
    """How served images are prepared."""


def build_image_training(config: ImageRunConfig, pack: ImagePack) -> ImageTraining:
    """Builds what a configuration asks for; equal for equal seeds.

    Args:
        config: The run.
        pack: Its images.

    Returns:
        Encoder, method and feed.

    Raises:
        ValueError: Configuration and data do not go together.
    """
    entry = require_method(config.method, Modality.IMAGE)
    settings = method_config(entry, config.settings)
    preprocessing = _preprocessing(pack, config)
    shown = _training_images(entry.load().needs, pack, config)
    context = MethodContext(
        dataset_size=len(shown.indices),
        batch_size=config.batch_size * config.fit.device.devices,
        image_size_px=config.encoder.image_size_px,
        class_count=0 if shown.labels is None else len(pack.label_names),
        predictions=_taught(entry.load().needs, pack, config, shown),
    )
    encoder = _encoder(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Streams(config.fit.loop.seed).number("heads"))
        method: Method = entry.load()(encoder, settings, context=context)
    if method.support() is not None:
        _require_every_class(pack, shown)
    feed = ImageFeed(
        source=pack,
        indices=shown.indices,
        views=method.views(),
        preprocessing=preprocessing,
        images_per_step=config.batch_size,
        labels=shown.labels,
        support=method.support(),
    )
    return ImageTraining(method=method, encoder=encoder, settings=settings, feed=feed, preprocessing=preprocessing)


def count_training_images(config: ImageRunConfig, pack: ImagePack) -> int:
    """Counts the images that a run goes through: those of the training split, or the labelled ones of them.

    Args:
        config: The run.
        pack: Its images.

    Returns:
        At least 0.

    Raises:
        ValueError: The method and the labels do not go together.
    """
    return len(_training_images(require_method(config.method, Modality.IMAGE).load().needs, pack, config).indices)


@dataclass(frozen=True, slots=True)
class _ShownImages:
    indices: NDArray[np.int64]
    """Numbers in the pack."""
    labels: NDArray[np.int64] | None
    """What the method may see of their labels; None where it needs none."""


def _training_images(needs: Needs, pack: ImagePack, config: ImageRunConfig) -> _ShownImages:
    indices = pack.indices(Split.TRAIN)
    if not needs.labels:
        if config.labels != LabelConfig():
            raise ValueError(f"--labels-per-class, --label-fraction: --method {config.method} uses no labels")
        return _ShownImages(indices, None)
    if pack.labels is None:
        raise ValueError(f"--method {config.method} needs labels, and {pack.path} has none; name folders by class")
    labels = withhold_labels(pack.labels[indices], config.labels)
    known = labels >= 0
    return _ShownImages(indices[known], labels[known]) if needs.every_label else _ShownImages(indices, labels)


def _taught(needs: Needs, pack: ImagePack, config: ImageRunConfig, shown: _ShownImages) -> Tensor | None:
    """Returns what the teacher says of the images without a shown label."""
    if config.teacher is None:
        return None
    if not needs.teacher:
        raise ValueError(f"--teacher ({config.teacher}): --method {config.method} learns from no teacher")
    said = predict_classes(config.teacher, pack, shown.indices)
    said[np.asarray(shown.labels) >= 0] = 0
    return torch.from_numpy(said)


def _require_every_class(pack: ImagePack, shown: _ShownImages) -> None:
    known = set(np.asarray(shown.labels).tolist())
    missing = [name for number, name in enumerate(pack.label_names) if number not in known]
    if missing:
        raise ValueError(f"every class needs a labelled training image to be predicted; none has: {', '.join(missing)}")


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
        jpeg_draft=bool(pack.manifest.get("jpeg_draft", False)),
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

"""Measures a subject on a split: the tasks that apply, as result rows and as values to compare subjects by."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from models.bundle.encoder import Modality
from training.corpora.splits import Split
from training.evaluation.bootstrap import BootstrapConfig
from training.evaluation.data import ImageData, TextData
from training.evaluation.environment import describe_environment
from training.evaluation.held_out_images import HeldOutImages, ImageTaskConfig
from training.evaluation.held_out_texts import HeldOutTexts, TextTaskConfig
from training.evaluation.image_tasks import IMAGE_TASKS
from training.evaluation.measurement import Measurement, TaskUnavailableError
from training.evaluation.results import Result
from training.evaluation.subjects import Advance, ImageSubject, SubjectInfo, TextSubject
from training.evaluation.text_tasks import TEXT_TASKS

__all__ = ["EvaluationConfig", "describe_results", "measure_images", "measure_texts"]

logger = logging.getLogger(__name__)

Held = TypeVar("Held")
Config = TypeVar("Config")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """What is measured, and how."""

    split: Split = Split.TEST
    """Part of the data the queries are from."""
    tasks: tuple[str, ...] | None = None
    """Tasks by name; one of them that does not apply is an error. None: all that apply."""
    text: TextTaskConfig = field(default_factory=TextTaskConfig)
    """Settings of the text tasks."""
    image: ImageTaskConfig = field(default_factory=ImageTaskConfig)
    """Settings of the image tasks."""
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    """How intervals are drawn."""


def measure_texts(
    subject: TextSubject, data: TextData, config: EvaluationConfig, advance: Advance | None = None
) -> list[Measurement]:
    """Measures a sentence encoder.

    Args:
        subject: What embeds.
        data: Documents.
        config: What is measured.
        advance: Told of progress, in texts.

    Returns:
        The figures.

    Raises:
        ValueError: A task is unknown.
        TaskUnavailableError: The split is empty, or a task that was asked for does not apply.
    """
    documents = data.documents(config.split)
    if not documents:
        raise TaskUnavailableError(f"the {config.split} split holds no documents; choose another with --split")
    held = HeldOutTexts(subject, documents, data.documents(Split.TRAIN), advance)
    return _run_tasks(TEXT_TASKS, held, config.text, config.tasks, Modality.TEXT)


def measure_images(
    subject: ImageSubject, data: ImageData, config: EvaluationConfig, advance: Advance | None = None
) -> list[Measurement]:
    """Measures an image encoder.

    Args:
        subject: What embeds.
        data: Images.
        config: What is measured.
        advance: Told of progress, in images.

    Returns:
        The figures.

    Raises:
        ValueError: A task is unknown.
        TaskUnavailableError: The split is empty, or a task that was asked for does not apply.
    """
    if len(data.indices(config.split)) == 0:
        raise TaskUnavailableError(f"the {config.split} split holds no images; choose another with --split")
    held = HeldOutImages(subject, data, config.split, config.image, advance)
    return _run_tasks(IMAGE_TASKS, held, config.image, config.tasks, Modality.IMAGE)


def describe_results(
    measurements: Sequence[Measurement],
    info: SubjectInfo,
    config: EvaluationConfig,
    *,
    data_name: str,
    data_fingerprint: str,
) -> list[Result]:
    """Turns measurements into rows, with intervals and environment.

    Args:
        measurements: Of one subject.
        info: The subject.
        config: Split and bootstrap.
        data_name: What the data is called.
        data_fingerprint: Identifies it.

    Returns:
        One row a measurement.
    """
    environment = describe_environment()
    return [
        Result(
            subject=info.name,
            subject_fingerprint=info.fingerprint,
            data=data_name,
            data_fingerprint=data_fingerprint,
            split=str(config.split),
            task=measurement.task,
            metric=measurement.metric,
            layer=measurement.layer or info.layer,
            parameters=measurement.parameters,
            n_gallery=measurement.n_gallery,
            n_query=measurement.n_query,
            value=measurement.value,
            interval=measurement.interval(config.bootstrap),
            seed=info.seed,
            labels_used=measurement.labels_used,
            flops=info.flops,
            environment=environment,
        )
        for measurement in measurements
    ]


def _run_tasks(
    table: Mapping[str, Callable[[Held, Config], list[Measurement]]],
    held: Held,
    settings: Config,
    wanted: tuple[str, ...] | None,
    modality: Modality,
) -> list[Measurement]:
    unknown = sorted(set(wanted or ()) - set(table))
    if unknown:
        raise ValueError(f"no {modality} task '{unknown[0]}'; there are: {', '.join(table)}")
    found: list[Measurement] = []
    for name, task in table.items():
        if wanted is not None and name not in wanted:
            continue
        try:
            found += task(held, settings)
        except TaskUnavailableError as error:
            if wanted is not None:
                raise
            logger.info("task left out", extra={"task": name, "cause": str(error)})
    if not found and wanted is None:
        raise TaskUnavailableError(f"no {modality} task applies to this data; there are: {', '.join(table)}")
    return found

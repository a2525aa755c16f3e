"""One evaluation from start to end: a pack, subjects and floors by name, rows of results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from models.bundle.encoder import Modality
from training.corpora.image_pack import ImagePack
from training.corpora.text_pack import TextPack
from training.evaluation.bootstrap import BootstrapConfig
from training.evaluation.compare import compare_measurements
from training.evaluation.measurement import Measurement, PerQuery
from training.evaluation.open_subject import EvaluationData
from training.evaluation.results import Result
from training.evaluation.subjects import Advance, ImageSubject, Subject
from training.evaluation.suite import EvaluationConfig, describe_results, measure_images, measure_texts

__all__ = ["Evaluated", "Progress", "describe_differences", "evaluate_subject", "open_data"]

Progress = Callable[[str], AbstractContextManager[Advance]]
"""Shows progress under a description while its block runs."""

_MANIFEST = "pack.json"


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One subject's figures: as rows to keep, and as values to compare."""

    rows: Sequence[Result]
    measurements: Sequence[Measurement]
    """One a row, in the same order."""


def open_data(path: Path) -> EvaluationData:
    """Opens a pack of either kind.

    Args:
        path: The pack's folder.

    Returns:
        The data, named after the folder.
    """
    if _kind(path) == "image":
        return EvaluationData(Modality.IMAGE, path.name, images=ImagePack.open(path))
    return EvaluationData(Modality.TEXT, path.name, texts=TextPack.open(path))


def evaluate_subject(
    subject: Subject, data: EvaluationData, config: EvaluationConfig, progress: Progress | None = None
) -> Evaluated:
    """Measures one subject on the data.

    Args:
        subject: Of the data's modality.
        data: What it is measured on.
        config: Split, tasks and their settings.
        progress: Shows progress; None for none.

    Returns:
        Its figures.

    Raises:
        ValueError: The subject is of another modality, or nothing that was asked for applies.
    """
    shown = progress(f"evaluate {subject.info.name}") if progress else nullcontext(_ignore)
    with shown as advance:
        if isinstance(subject, ImageSubject):
            if data.images is None:
                raise ValueError(f"'{subject.info.name}' reads images and the data holds texts")
            measurements = measure_images(subject, data.images, config, advance)
        else:
            if data.texts is None:
                raise ValueError(f"'{subject.info.name}' reads texts and the data holds images")
            measurements = measure_texts(subject, data.texts, config, advance)
    rows = describe_results(measurements, subject.info, config, data_name=data.name, data_fingerprint=data.fingerprint)
    return Evaluated(rows, measurements)


def describe_differences(one: Evaluated, other: Evaluated, config: BootstrapConfig | None = None) -> list[Result]:
    """Compares two subjects on every figure that both have and that is a mean over queries.

    Args:
        one: The subject that may beat.
        other: The one that may be beaten, measured on the same data.
        config: How intervals are drawn.

    Returns:
        Rows whose subject is `a - b`, whose value is the mean paired difference, with its 95 % interval.
    """
    theirs = {
        measurement.key: (measurement, row) for measurement, row in zip(other.measurements, other.rows, strict=True)
    }
    found = []
    for measurement, row in zip(one.measurements, one.rows, strict=True):
        match = theirs.get(measurement.key)
        if match is None or not isinstance(measurement.outcome, PerQuery):
            continue
        difference = compare_measurements(measurement, match[0], config)
        found.append(
            replace(
                row,
                subject=f"{row.subject} - {match[1].subject}",
                metric=f"{row.metric} difference",
                subject_fingerprint=f"{row.subject_fingerprint} - {match[1].subject_fingerprint}",
                value=difference.mean,
                interval=(difference.low, difference.high),
                flops=None,
            )
        )
    return found


def _kind(path: Path) -> str:
    """Peeks at a pack's kind; whatever is wrong with the pack is said by the one who opens it."""
    try:
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(manifest.get("kind")) if isinstance(manifest, dict) else ""


def _ignore(_count: int) -> None:
    return

"""One evaluation from start to end: a pack, subjects and floors by name, rows of results."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from models.bundle.encoder import Modality
from training.corpora.image_pack import ImagePack
from training.corpora.pack_manifest import read_kind
from training.corpora.text_pack import TextPack
from training.evaluation.evaluated import Evaluated
from training.evaluation.open_subject import EvaluationData
from training.evaluation.subjects import Advance, ImageSubject, Subject
from training.evaluation.suite import EvaluationConfig, describe_results, measure_images, measure_texts

__all__ = ["Progress", "evaluate_subject", "open_data"]

Progress = Callable[[str], AbstractContextManager[Advance]]
"""Shows progress under a description while its block runs."""


def open_data(path: Path) -> EvaluationData:
    """Opens a pack of either kind.

    Args:
        path: The pack's folder.

    Returns:
        The data, named after the folder.
    """
    if read_kind(path) == "image":
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


def _ignore(_count: int) -> None:
    return

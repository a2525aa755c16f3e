"""Finds and loads what a user names: a run, a bundle, a model directory, a packaged model, or a floor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.bundle.encoder import Modality
from models.bundle.load import load_bundle
from models.bundle.manifest import MANIFEST_FILE
from training.corpora.catalogue import fetch
from training.corpora.splits import Split
from training.evaluation.bundle_subjects import BundlePixelEncoder, BundleTextSubject
from training.evaluation.data import ImageData, TextData
from training.evaluation.floors import centred_pixels, fit_tf_idf, raw_pixels
from training.evaluation.source_subjects import (
    EncoderParts,
    directory_parts,
    efficientnet_subject,
    run_parts,
    trained_subject,
    untrained_subject,
)
from training.evaluation.subjects import ImageSubject, Subject, SubjectInfo
from training.export.run_source import is_run

__all__ = ["EvaluationData", "open_floors", "open_subject"]

_PIXEL_FLOORS: Final = {"raw-pixels": raw_pixels, "centred-pixels": centred_pixels}
_UNTRAINED: Final = "untrained:"
_NAMES: Final = "raw-pixels, centred-pixels, tf-idf, minilm, efficientnet-lite0, untrained:RUN"


@dataclass(frozen=True, slots=True)
class EvaluationData:
    """The data that subjects are opened for; floors are fitted on its training split."""

    modality: Modality
    name: str
    """What rows call it."""
    texts: TextData | None = None
    images: ImageData | None = None

    def __post_init__(self) -> None:
        """Checks that it holds its modality and nothing else."""
        held = self.texts if self.modality is Modality.TEXT else self.images
        if held is None or (self.texts is not None and self.images is not None):
            raise ValueError(f"data of modality {self.modality} must hold {self.modality}s only")

    @property
    def fingerprint(self) -> str:
        """Identifies exactly this data."""
        return "".join(held.fingerprint for held in (self.texts, self.images) if held is not None)


def open_subject(
    name: str,
    data: EvaluationData,
    *,
    seed: int = 0,
    threads: int = 1,
    layer: str | None = None,
    image_size_px: int | None = None,
) -> Subject:
    """Loads a subject by what the user calls it.

    Args:
        name: A run folder, a bundle, or a sentence-transformers directory; else `raw-pixels`, `centred-pixels`,
            `tf-idf`, `minilm`, `efficientnet-lite0`, or `untrained:` before a run or directory.
        data: What it will be measured on.
        seed: Of an untrained encoder's weights.
        threads: Of a bundle's graph.
        layer: An inner layer of a run's image encoder, to measure in the representation's place.
        image_size_px: Side of the square that a run's image encoder reads, where not that of its training; other
            subjects read what they always do.

    Returns:
        The subject, of the data's modality.

    Raises:
        ValueError: There is no such subject, or it reads the other modality.
    """
    if is_run(Path(name)):
        subject = _open_run(Path(name), layer=layer, image_size_px=image_size_px)
    else:
        subject = _open(name, data, seed=seed, threads=threads, layer=layer)
    if subject.info.modality is not data.modality:
        raise ValueError(
            f"'{name}' reads {subject.info.modality}s and the data holds {data.modality}s; "
            "choose another pack or subject"
        )
    return subject


def open_floors(names: tuple[str, ...], data: EvaluationData, *, seed: int = 0) -> list[Subject]:
    """Loads the floors that belong beside some subjects: raw pixels or TF-IDF, and each run's encoder untrained.

    Args:
        names: The subjects' names.
        data: What is measured on.
        seed: Of the untrained weights.

    Returns:
        Floors that are not among the names, each once.
    """
    simple = ("tf-idf",) if data.modality is Modality.TEXT else tuple(_PIXEL_FLOORS)
    floors = [open_subject(floor, data) for floor in simple if floor not in names]
    known: set[str] = set()
    for name in names:
        if not is_run(Path(name)) or f"{_UNTRAINED}{name}" in names:
            continue
        subject = open_subject(f"{_UNTRAINED}{name}", data, seed=seed)
        if subject.info.fingerprint not in known:
            known.add(subject.info.fingerprint)
            floors.append(subject)
    return floors


def _open_run(path: Path, *, layer: str | None, image_size_px: int | None) -> Subject:
    size = "" if image_size_px is None else f" at {image_size_px} px"
    return trained_subject(run_parts(path, image_size_px=image_size_px), name=path.name + size, layer=layer)


def _open(name: str, data: EvaluationData, *, seed: int, threads: int, layer: str | None) -> Subject:
    path = Path(name)
    if path.is_dir():
        return _open_folder(path, data, threads=threads, layer=layer)
    if layer is not None:
        raise ValueError(f"--layer {layer}: layers are measured of runs, and '{name}' is none")
    if name.startswith(_UNTRAINED):
        return untrained_subject(_read_parts(_find_shape(name.removeprefix(_UNTRAINED))), seed=seed)
    return _open_named(name, data)


def _open_folder(path: Path, data: EvaluationData, *, threads: int, layer: str | None) -> Subject:
    if (path / MANIFEST_FILE).is_file():
        if layer is not None:
            raise ValueError(f"--layer {layer}: '{path}' is a bundle, sealed to give embeddings alone; name a run")
        return _open_bundle(path, data.modality, threads=threads)
    return trained_subject(directory_parts(path), name=path.name, layer=layer)


def _open_named(name: str, data: EvaluationData) -> Subject:
    if name in _PIXEL_FLOORS:
        if data.images is None:
            raise ValueError(f"'{name}' is a floor for images and the data holds texts; its floor is 'tf-idf'")
        return _PIXEL_FLOORS[name](data.images)
    if name == "tf-idf":
        if data.texts is None:
            raise ValueError("'tf-idf' is a floor for texts and the data holds images; its floor is 'raw-pixels'")
        return fit_tf_idf(data.texts.documents(Split.TRAIN), data.texts.fingerprint)
    if name == "minilm":
        return trained_subject(directory_parts(fetch("minilm")), name="minilm")
    if name == "efficientnet-lite0":
        return efficientnet_subject(fetch("efficientnet-lite0"))
    raise ValueError(f"'{name}' is neither a folder nor one of {_NAMES}; give a run folder or a bundle")


def _read_parts(path: Path) -> EncoderParts:
    return run_parts(path) if is_run(path) else directory_parts(path)


def _find_shape(name: str) -> Path:
    if name == "minilm":
        return fetch("minilm")
    path = Path(name)
    if not path.is_dir():
        raise ValueError(
            f"'{_UNTRAINED}{name}' names no folder; give a run folder or a sentence-transformers directory"
        )
    if (path / MANIFEST_FILE).is_file():
        raise ValueError(
            f"'{_UNTRAINED}{name}' names a bundle, whose shape is sealed in its graph; name the run instead"
        )
    return path


def _open_bundle(path: Path, modality: Modality, *, threads: int) -> Subject:
    bundle = load_bundle(path, threads=threads)
    if str(modality) not in bundle.encoders:
        have = " and ".join(f"{kind}s" for kind in bundle.encoders)
        raise ValueError(
            f"bundle '{path}' reads {have} and the data holds {modality}s; choose the other pack or bundle"
        )
    encoder = bundle.encoders[str(modality)]
    info = SubjectInfo(
        name=f"{encoder.info.name} ({encoder.info.precision} bundle)",
        fingerprint=encoder.info.fingerprint,
        modality=modality,
        seed=bundle.manifest.provenance.seed,
    )
    if modality is Modality.TEXT:
        return BundleTextSubject(info, encoder)
    return ImageSubject(info, BundlePixelEncoder(encoder))

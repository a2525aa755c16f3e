"""Real inputs for an export: some to calibrate static int8 on, others to measure retrieval with, never the same."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from models.bundle.encoder import Modality
from models.bundle.offline import iterate_inputs
from training.corpora.image_pack import ImagePack
from training.corpora.pack_manifest import read_kind
from training.corpora.splits import Split
from training.corpora.text_pack import TextPack
from training.export.source import LEAST_MEASURED, ReferenceSample

__all__ = ["CALIBRATION_COUNT", "divide_inputs", "read_calibration", "read_inputs", "sample_images", "sample_texts"]

CALIBRATION_COUNT: Final = 128
"""Inputs that static int8 is calibrated on; its ranges hardly move beyond."""
_MEASURED_COUNT: Final = {Modality.TEXT: 1_000, Modality.IMAGE: 500}
_CALIBRATION_SHARE: Final = 4
_SEED: Final = 0
_PACK_FILE: Final = "pack.json"


def divide_inputs(path: Path, modality: Modality) -> tuple[ReferenceSample, ReferenceSample]:
    """Takes inputs to calibrate on and others to measure with from one place.

    Args:
        path: A pack: its training part and its validation part. Or files as `diptych embed` reads them: texts one a
            line, images one a file, `.jsonl`, folders; a seeded quarter, at most 128, is for calibration.
        modality: What the encoder reads.

    Returns:
        For calibration; to measure with.

    Raises:
        ValueError: The place is not there, holds another kind, or too few inputs to measure with.
    """
    if _is_pack(path):
        return _read_pack(path, modality, Split.TRAIN, CALIBRATION_COUNT), read_inputs(path, modality)
    items = _sample_files(path, modality, CALIBRATION_COUNT + _MEASURED_COUNT[modality])
    cut = min(CALIBRATION_COUNT, len(items) // _CALIBRATION_SHARE)
    measured = ReferenceSample(items=items[cut:], source=path.name)
    _require_enough(measured, path)
    return ReferenceSample(items=items[:cut], source=path.name), measured


def read_calibration(path: Path, modality: Modality) -> ReferenceSample:
    """Takes inputs to calibrate on, where others are measured on.

    Args:
        path: As in `divide_inputs`; of a pack the training part, of files all.
        modality: What the encoder reads.

    Returns:
        At most 128 inputs.

    Raises:
        ValueError: The place is not there, or holds another kind or nothing.
    """
    if _is_pack(path):
        return _read_pack(path, modality, Split.TRAIN, CALIBRATION_COUNT)
    items = _sample_files(path, modality, CALIBRATION_COUNT)
    if not items:
        raise ValueError(f"'{path}' holds no input to calibrate on; give a file of one text a line, or images")
    return ReferenceSample(items=items, source=path.name)


def read_inputs(path: Path, modality: Modality) -> ReferenceSample:
    """Takes inputs to measure with.

    Args:
        path: As in `divide_inputs`; of a pack the validation part, of files all.
        modality: What the encoder reads.

    Returns:
        At most 1,000 texts or 500 images.

    Raises:
        ValueError: As in `divide_inputs`.
    """
    count = _MEASURED_COUNT[modality]
    if _is_pack(path):
        sample = _read_pack(path, modality, Split.VALIDATION, count)
    else:
        sample = ReferenceSample(items=_sample_files(path, modality, count), source=path.name)
    _require_enough(sample, path)
    return sample


def sample_texts(pack: TextPack, split: Split, count: int) -> list[str | bytes]:
    """Samples sentences of a part of a pack, the same ones every time.

    Args:
        pack: The pack.
        split: The part.
        count: The most that are taken, of as many documents.

    Returns:
        The sentences.
    """
    documents = pack.documents(split)
    chosen = _choose(len(documents), count)
    sentences = [sentence for index in chosen for sentence in documents[index].sentences]
    return [sentences[index] for index in _choose(len(sentences), count)]


def sample_images(pack: ImagePack, split: Split, count: int) -> list[str | bytes]:
    """Samples images of a part of a pack, the same ones every time.

    Args:
        pack: The pack.
        split: The part.
        count: The most that are taken.

    Returns:
        The encoded images as they were before packing; where they are gone, what the pack keeps of them.
    """
    indices = pack.indices(split)
    return [_read_image(pack, int(index)) for index in indices[_choose(len(indices), count)]]


def _is_pack(path: Path) -> bool:
    if not path.exists():
        raise ValueError(f"there is no '{path}'; give a pack, a file of texts or a folder of images")
    return (path / _PACK_FILE).is_file()


def _read_pack(path: Path, modality: Modality, split: Split, count: int) -> ReferenceSample:
    kind = read_kind(path)
    if kind != str(modality):
        raise ValueError(f"the pack '{path}' holds {kind}s, the encoder reads {modality}s; give a pack of {modality}s")
    items = (
        sample_texts(TextPack.open(path), split, count)
        if modality is Modality.TEXT
        else sample_images(ImagePack.open(path), split, count)
    )
    return ReferenceSample(items=items, source=f"{split} split of pack '{path.name}'")


def _sample_files(path: Path, modality: Modality, count: int) -> list[str | bytes]:
    """Draws different inputs from files of any size, in a seeded order of their own."""
    kept: list[str | Path] = []
    rng = np.random.default_rng(_SEED)
    for seen, content in enumerate(_contents(path, modality)):
        place = int(rng.integers(seen + 1))
        if len(kept) < count:
            kept.insert(place, content)
        elif place < count:
            kept[place] = content
    read = (content.read_bytes() if isinstance(content, Path) else content for content in kept)
    return list(dict.fromkeys(read))


def _contents(path: Path, modality: Modality) -> Iterator[str | Path]:
    for given in iterate_inputs([path], modality):
        if isinstance(given.content, OSError | UnicodeDecodeError):
            raise ValueError(f"'{given.id}' cannot be read: {given.content}") from given.content
        if not isinstance(given.content, ValueError):
            yield given.content


def _require_enough(sample: ReferenceSample, path: Path) -> None:
    if len(sample.items) < LEAST_MEASURED:
        raise ValueError(
            f"'{path}' leaves {len(sample.items)} different inputs to measure retrieval with, at least "
            f"{LEAST_MEASURED} are needed; give more, or name others with --measure"
        )


def _read_image(pack: ImagePack, index: int) -> bytes:
    """Takes the original, as a client would send it; where its source is gone, what the pack keeps of it."""
    try:
        return pack.original(index)
    except (OSError, ValueError):
        stream = BytesIO()
        Image.fromarray(pack.read(np.array([index]))[0]).save(stream, "PNG")
        return stream.getvalue()


def _choose(count: int, at_most: int) -> list[int]:
    chosen = np.random.default_rng(_SEED).permutation(count)[:at_most]
    return [int(index) for index in np.sort(chosen)]

"""Embeds texts and images with a bundle and no server: the same preparation, graphs and limits as in service."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.bundle.encoder import Encoder, EncoderInfo, Modality, Prepared, Purpose
from models.bundle.load import load_bundle

__all__ = [
    "OfflineBatch",
    "OfflineConfig",
    "OfflineInput",
    "OfflineResult",
    "embed_inputs",
    "embed_offline",
    "iterate_inputs",
    "load_encoder",
    "stream_offline",
    "walk_files",
]

_WINDOW: Final = 1_024  # inputs prepared together, then sorted by length so that little padding is computed


@dataclass(frozen=True, kw_only=True, slots=True)
class OfflineConfig:
    """How a bundle is run without a server."""

    precision: str = "fp32"
    """Which graph: `fp32` or `int8`."""
    threads: int = 0
    """Threads of one call of the graph; 0: as many as this process may use cores."""
    kind: Modality | None = None
    """Which encoder of a bundle that has two; None: the only one."""
    purpose: Purpose = Purpose.DOCUMENT
    """Chooses the prompt, where the encoder has any."""
    truncate: bool = True
    """Whether over-long texts are cut; otherwise each is an error."""
    batch_cost: int = 8_192
    """Tokens of a batch of texts, padding included; for images, 64 times as many pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OfflineBatch:
    """Some inputs' vectors, in the order given."""

    ids: tuple[str, ...]
    """Where each input came from: the file, and the line where a file holds many."""
    vectors: NDArray[np.float32]
    """`[n, dimension]`; zero rows where the input failed."""
    errors: Mapping[int, str] = field(default_factory=dict)
    """Per failed row what was wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OfflineResult:
    """All inputs' vectors, in the order given."""

    info: EncoderInfo
    ids: tuple[str, ...]
    vectors: NDArray[np.float32]
    """`[n, dimension]`; zero rows where the input failed."""
    errors: Mapping[int, str]
    """Per failed row what was wrong."""


@dataclass(frozen=True, slots=True)
class OfflineInput:
    """One input, or why there is none."""

    id: str
    """The file, and the line where a file holds many; or what the line itself says."""
    content: str | Path | OSError | ValueError
    """A text, an image's file, or what was wrong."""


def embed_offline(
    bundle_path: Path,
    files: Sequence[Path],
    config: OfflineConfig | None = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> OfflineResult:
    """Embeds files with a bundle.

    Args:
        bundle_path: The bundle's folder.
        files: As `iterate_inputs` reads them.
        config: How to run; the defaults where None.
        progress: Called with the number of inputs done so far.

    Returns:
        One row an input; an input that cannot be used is one error and the others' vectors.

    Raises:
        BundleError: The bundle is refused.
        ValueError: The bundle has no encoder of that kind, or there is no input at all.
    """
    used = config or OfflineConfig()
    encoder = load_encoder(bundle_path, used)
    ids: list[str] = []
    parts: list[NDArray[np.float32]] = []
    errors: dict[int, str] = {}
    for batch in stream_offline(encoder, files, used):
        errors.update({len(ids) + row: message for row, message in batch.errors.items()})
        ids += batch.ids
        parts.append(batch.vectors)
        if progress is not None:
            progress(len(ids))
    if not ids:
        raise ValueError(f"the {len(files)} files hold no input; a text file holds one text a line")
    return OfflineResult(info=encoder.info, ids=tuple(ids), vectors=np.concatenate(parts), errors=errors)


def load_encoder(bundle_path: Path, config: OfflineConfig) -> Encoder:
    """Loads the encoder that a configuration means.

    Args:
        bundle_path: The bundle's folder.
        config: Precision, threads and, of a bundle with two encoders, which.

    Returns:
        The encoder, which has reproduced its golden vectors here.

    Raises:
        BundleError: The bundle is refused.
        ValueError: The bundle has no encoder of that kind.
    """
    threads = config.threads or len(os.sched_getaffinity(0))
    return _choose(load_bundle(bundle_path, precision=config.precision, threads=threads).encoders, config.kind)


def stream_offline(encoder: Encoder, files: Sequence[Path], config: OfflineConfig) -> Iterator[OfflineBatch]:
    """Embeds files in windows of 1,024 inputs, so that memory does not grow with their number.

    Args:
        encoder: From `load_bundle`.
        files: As `iterate_inputs` reads them.
        config: How to run.

    Yields:
        The windows, in order.
    """
    inputs = iterate_inputs(files, encoder.info.modality)
    while window := list(islice(inputs, _WINDOW)):
        yield embed_inputs(encoder, window, config)


def iterate_inputs(files: Sequence[Path], modality: Modality) -> Iterator[OfflineInput]:
    """Reads inputs from files.

    Args:
        files: Images: one a file. Texts: one a non-empty line; in `.jsonl` each line a string or an object with
            `text` and, if it likes, `id`. Folders are walked, hidden files left out.
        modality: Which of the two.

    Yields:
        Each input, or why it could not be read.
    """
    for path in walk_files(files):
        if modality is Modality.IMAGE:
            yield OfflineInput(str(path), path)
        else:
            yield from _read_texts(path)


def walk_files(files: Sequence[Path]) -> Iterator[Path]:
    """Goes through files and folders.

    Args:
        files: Folders are walked, hidden files left out.

    Yields:
        Files; those of a folder by name.
    """
    for file in files:
        yield from _walk(Path(file))


def _walk(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for file in sorted(path.rglob("*")):
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts):
            yield file


def _read_texts(path: Path) -> Iterator[OfflineInput]:
    try:
        with path.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield _read_line(line.rstrip("\n"), f"{path}:{number}", is_json=path.suffix == ".jsonl")
    except (OSError, UnicodeDecodeError) as error:
        yield OfflineInput(str(path), error)


def _read_line(line: str, place: str, *, is_json: bool) -> OfflineInput:
    if not is_json:
        return OfflineInput(place, line)
    try:
        value = json.loads(line)
    except ValueError as error:
        return OfflineInput(place, ValueError(f"the line is no JSON: {error}"))
    text = value.get("text") if isinstance(value, dict) else value
    if not isinstance(text, str):
        return OfflineInput(place, ValueError("the line must be a JSON string, or an object with a string 'text'"))
    return OfflineInput(str(value.get("id", place)) if isinstance(value, dict) else place, text)


def embed_inputs(encoder: Encoder, window: Sequence[OfflineInput], config: OfflineConfig) -> OfflineBatch:
    """Embeds some inputs, sorted by length so that little padding is computed.

    Args:
        encoder: From `load_encoder`.
        window: At least one; images are read here.
        config: How to run.

    Returns:
        A row an input; one that cannot be used is an error and zeros.
    """
    vectors = np.zeros((len(window), encoder.info.dimension), dtype=np.float32)
    errors: dict[int, str] = {}
    prepared: dict[int, Prepared] = {}
    for row, item in enumerate(window):
        try:
            if isinstance(item.content, Exception):
                raise item.content
            content = item.content.read_bytes() if isinstance(item.content, Path) else item.content
            prepared[row] = encoder.prepare(content, purpose=config.purpose, truncate=config.truncate)
        except (OSError, ValueError) as error:
            errors[row] = str(error)
    budget = config.batch_cost * (64 if encoder.info.modality is Modality.IMAGE else 1)
    for rows in _group(prepared, budget):
        vectors[rows] = encoder.run([prepared[row] for row in rows])
    return OfflineBatch(ids=tuple(item.id for item in window), vectors=vectors, errors=errors)


def _group(prepared: Mapping[int, Prepared], budget: int) -> Iterator[list[int]]:
    """Yields rows of similar length whose padded cost stays within the budget; one over it goes alone."""
    rows: list[int] = []
    for row in sorted(prepared, key=lambda row: prepared[row].cost):
        if rows and prepared[row].cost * (len(rows) + 1) > budget:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows


def _choose(encoders: Mapping[str, Encoder], kind: Modality | None) -> Encoder:
    if kind is None and len(encoders) == 1:
        return next(iter(encoders.values()))
    if kind is None or str(kind) not in encoders:
        have = " and ".join(sorted(encoders))
        asked = "no kind was chosen" if kind is None else f"'{kind}' was asked for"
        raise ValueError(f"the bundle reads {have}, {asked}; choose with --kind")
    return encoders[str(kind)]

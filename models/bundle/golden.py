"""Inputs whose vectors are known: how near an encoder on this machine comes to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.bundle.encoder import Encoder, Modality
from models.bundle.errors import BundleError
from models.bundle.identity import MIN_USABLE_COSINE
from models.bundle.manifest import EncoderEntry
from models.bundle.strict_json import parse_json

__all__ = ["Agreement", "Golden", "find_agreement_fault", "measure_agreement", "read_golden"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Golden:
    """Inputs and what torch made of them."""

    items: tuple[str | bytes, ...]
    """Texts, or encoded images, of mixed length or size."""
    vectors: NDArray[np.float32]
    """`[n, dimension]`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """How far an encoder is from the golden vectors, and from itself."""

    golden_deviation: float
    """Largest difference of a component from the golden vectors, relative to the longest of them where above 1."""
    golden_cosine: float
    """Smallest cosine to the golden vector."""
    batch_deviation: float
    """Largest difference of a component between an input alone and in a padded batch."""


def read_golden(folder: Path, entry: EncoderEntry) -> Golden:
    """Reads an encoder's golden inputs and vectors.

    Args:
        folder: The bundle's folder.
        entry: The encoder.

    Returns:
        Inputs and vectors, as many of the one as of the other.

    Raises:
        BundleError: They cannot be read or do not fit together.
    """
    try:
        vectors = np.load(folder / entry.golden.vectors, allow_pickle=False)
        items = _read_items(folder, entry)
    except (OSError, ValueError) as error:
        raise BundleError(f"the golden inputs cannot be read: {error}") from error
    if vectors.shape != (len(items), entry.dimension) or vectors.dtype != np.float32 or not len(items):
        raise BundleError(
            f"the golden vectors are {vectors.dtype} {list(vectors.shape)}, "
            f"not float32 [{len(items)}, {entry.dimension}] as inputs and dimension ask for"
        )
    return Golden(items=items, vectors=vectors)


def measure_agreement(
    encoder: Encoder, golden: Golden, *, batch_sizes: Sequence[int], alone: int | None = None
) -> Agreement:
    """Embeds the golden inputs, alone and in padded batches, and compares.

    Args:
        encoder: The encoder under test.
        golden: Inputs and vectors.
        batch_sizes: Sizes of the batches; the inputs' lengths are mixed, so batches of texts are padded.
        alone: How many of the first inputs are run alone; None: all.

    Returns:
        The worst over every run.
    """
    prepared = [encoder.prepare(item) for item in golden.items]
    single = np.concatenate([encoder.run([item]) for item in prepared[:alone]])
    runs = [single]
    batch_deviation = 0.0
    for size in batch_sizes:
        starts = range(0, len(prepared), size)
        batched = np.concatenate([encoder.run(prepared[start : start + size]) for start in starts])
        batch_deviation = max(batch_deviation, _deviation(batched[: len(single)], single))
        runs.append(batched)
    return Agreement(
        golden_deviation=max(_deviation(run, golden.vectors[: len(run)]) for run in runs),
        golden_cosine=min(_worst_cosine(run, golden.vectors[: len(run)]) for run in runs),
        batch_deviation=batch_deviation,
    )


def find_agreement_fault(entry: EncoderEntry, precision: str, agreement: Agreement) -> str | None:
    """Judges a measured agreement.

    Args:
        entry: The encoder, for its tolerances.
        precision: The graph that was measured; fp32 must equal torch, a quantised one must stay near.
        agreement: What was measured.

    Returns:
        One sentence, or None where the graph may be used.
    """
    graph = entry.graphs[precision]
    if precision == "fp32" and not agreement.golden_deviation <= entry.golden.tolerance:
        return (
            f"its {precision} graph does not reproduce the golden vectors on this machine: "
            f"they differ by {agreement.golden_deviation:.2g}, the tolerance is {entry.golden.tolerance:.2g}"
        )
    if not agreement.golden_cosine >= MIN_USABLE_COSINE:
        return (
            f"its {precision} graph strays from the golden vectors on this machine: "
            f"the worst cosine is {agreement.golden_cosine:.4f}, at least {MIN_USABLE_COSINE} is needed; use fp32"
        )
    if not agreement.batch_deviation <= graph.batch_tolerance:
        return (
            f"its {precision} graph gives an input another vector in a batch than alone: "
            f"they differ by {agreement.batch_deviation:.2g}, the tolerance is {graph.batch_tolerance:.2g}"
        )
    return None


def _deviation(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    if found.shape != wanted.shape:
        raise BundleError(f"the graph returns vectors {list(found.shape)}, not {list(wanted.shape)}")
    scale = max(1.0, float(np.linalg.norm(wanted, axis=1).max()))
    difference = float(np.abs(found.astype(np.float64) - wanted).max()) / scale
    # A NaN would compare as no deviation at all.
    return difference if np.isfinite(difference) else float("inf")


def _worst_cosine(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    cosines = (found * wanted).sum(axis=1, dtype=np.float64) / np.maximum(norms, np.finfo(np.float32).tiny)
    worst = float(cosines.min())
    return worst if np.isfinite(worst) else -1.0


def _read_items(folder: Path, entry: EncoderEntry) -> tuple[str | bytes, ...]:
    if entry.modality is Modality.IMAGE:
        return tuple((folder / path).read_bytes() for path in entry.golden.inputs)
    texts: list[str] = []
    for path in entry.golden.inputs:
        values = parse_json((folder / path).read_text(encoding="utf-8"), path)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise ValueError(f"{path} must be a list of texts")
        texts += values
    return tuple(texts)

"""Embeds real inputs with an exported graph, and summarises what vectors and inputs look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.bundle.encoder import Encoder, Modality, Prepared, Purpose
from models.bundle.manifest import Prompts
from models.bundle.pixels import decode_image
from models.bundle.statistics import ReferenceStatistics, summarise
from training.export.neighbours import VectorSet
from training.export.source import ReferenceSample

__all__ = ["EmbeddedSample", "embed_sample", "take_statistics"]

_BATCH: Final = 16


@dataclass(frozen=True, slots=True)
class EmbeddedSample:
    """Inputs that an encoder can use, and their vectors."""

    source: str
    """What they were taken from, in words."""
    items: tuple[str | bytes, ...]
    prepared: tuple[Prepared, ...]
    """The items as documents."""
    vectors: VectorSet


def embed_sample(encoder: Encoder, sample: ReferenceSample, prompts: Prompts) -> EmbeddedSample:
    """Embeds a sample as queries and as documents, which are the same where the encoder has one prompt for both.

    Args:
        encoder: A graph as it will be served.
        sample: The inputs; those it cannot use are left out.
        prompts: The encoder's.

    Returns:
        A row an input, in the order given.
    """
    purposes = (Purpose.DOCUMENT,) if prompts.query == prompts.document else (Purpose.DOCUMENT, Purpose.QUERY)
    items: list[str | bytes] = []
    ready: list[list[Prepared]] = []
    for item in sample.items:
        try:
            ready.append([encoder.prepare(item, purpose=purpose) for purpose in purposes])
        except ValueError:
            continue
        items.append(item)
    sides = [_embed(encoder, [row[side] for row in ready]) for side in range(len(purposes))]
    prepared = tuple(row[0] for row in ready)
    return EmbeddedSample(sample.source, tuple(items), prepared, VectorSet(queries=sides[-1], gallery=sides[0]))


def take_statistics(embedded: EmbeddedSample, modality: Modality) -> ReferenceStatistics:
    """Summarises an embedded sample.

    Args:
        embedded: By the fp32 graph.
        modality: What the encoder reads.

    Returns:
        The summary.

    Raises:
        ValueError: Fewer than two inputs can be used.
    """
    if len(embedded.items) < 2:
        raise ValueError(
            f"the reference sample '{embedded.source}' holds {len(embedded.items)} usable inputs; 2 are needed"
        )
    sizes: list[int] = []
    brightness: list[float] = []
    for item, ready in zip(embedded.items, embedded.prepared, strict=True):
        if isinstance(item, bytes):
            rgb = decode_image(item)
            sizes.append(rgb.shape[0] * rgb.shape[1])
            brightness.append(float(rgb.mean()) / 255)
        else:
            sizes.append(len(ready.array))
    return summarise(
        embedded.vectors.gallery,
        source=embedded.source,
        input_sizes=np.asarray(sizes, dtype=np.int64),
        truncated_fraction=float(np.mean([item.truncated for item in embedded.prepared])),
        brightness=np.asarray(brightness) if modality is Modality.IMAGE else None,
    )


def _embed(encoder: Encoder, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
    """Runs inputs in batches of similar length, as they are served, and puts their vectors back in order."""
    vectors = np.zeros((len(prepared), encoder.info.dimension), dtype=np.float32)
    order = sorted(range(len(prepared)), key=lambda row: prepared[row].cost)
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        vectors[rows] = encoder.run([prepared[row] for row in rows])
    return vectors

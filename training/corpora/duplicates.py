"""Copies in a pack, and those that lie on both sides of its division: looked for before training, not after."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.corpora.image_pack import ImagePack
from training.corpora.splits import Split
from training.corpora.text_pack import TextPack

__all__ = ["DuplicateReport", "find_image_duplicates", "find_text_duplicates"]

_GRID = 8
"""Images are compared as this many squares a side, in colour."""
_BLOCK = 2048
_LISTED = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class DuplicateReport:
    """What is there twice."""

    items: int
    exact: int
    """Items beyond the first of each group of equal ones."""
    near: int
    """Items that have a near copy, exact ones included."""
    leaked: dict[str, int]
    """Held-out items with a copy, exact or near, in training, by their part of the data."""
    pairs: Sequence[tuple[str, str, float]]
    """At most 100 of the closest pairs across the division: held-out id, training id, likeness in [0, 1]."""


def find_image_duplicates(
    pack: ImagePack, *, threshold: float = 0.995, advance: Callable[[int], None] | None = None
) -> DuplicateReport:
    """Looks for images that show the same.

    Images are compared as 8 x 8 colours less their mean, by cosine; every image with every other, in n² / 2 products
    of 192 values: seconds for ten thousand images, minutes for a hundred thousand.

    Args:
        pack: The images.
        threshold: Likeness from which two images are near copies, in (0, 1].
        advance: Told of progress, in images.

    Returns:
        What was found.

    Raises:
        ValueError: `threshold` is outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold ({threshold}) must be in (0, 1]")
    signatures, digests = _sign(pack)
    training = np.zeros(len(pack), dtype=np.bool_)
    training[pack.indices(Split.TRAIN)] = True
    has_copy = np.zeros(len(pack), dtype=np.bool_)
    nearest = np.full(len(pack), -1, dtype=np.int64)
    likeness = np.zeros(len(pack), dtype=np.float32)
    for start in range(0, len(pack), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(pack)))
        count = rows.stop - start
        scores = signatures[rows] @ signatures.T
        scores[np.arange(count), np.arange(start, rows.stop)] = -1  # not itself
        has_copy[rows] = scores.max(axis=1, initial=-1) >= threshold
        scores[:, ~training] = -1
        nearest[rows], likeness[rows] = scores.argmax(axis=1), scores.max(axis=1, initial=-1)
        if advance is not None:
            advance(count)
    leaked = {split: pack.indices(split) for split in (Split.VALIDATION, Split.TEST)}
    found = {split: numbers[likeness[numbers] >= threshold] for split, numbers in leaked.items()}
    worst = sorted(np.concatenate(list(found.values())).tolist(), key=lambda number: -likeness[number])[:_LISTED]
    return DuplicateReport(
        items=len(pack),
        exact=len(digests) - len(set(digests)),
        near=int(has_copy.sum()),
        leaked={str(split): len(numbers) for split, numbers in found.items()},
        pairs=[(pack.ids[number], pack.ids[int(nearest[number])], float(likeness[number])) for number in worst],
    )


def find_text_duplicates(pack: TextPack) -> DuplicateReport:
    """Looks for sentences that are there twice, whatever their case and spacing.

    Args:
        pack: The documents.

    Returns:
        What was found; items are sentences, and a near copy is one that differs in case or spacing.
    """
    exact: set[bytes] = set()
    seen: dict[bytes, int] = {}
    home: dict[bytes, str] = {}
    repeated = items = 0
    for document in pack.documents(Split.TRAIN):
        for sentence in document.sentences:
            home.setdefault(_key(sentence), document.id)
    for document in pack.documents():
        for sentence in document.sentences:
            items += 1
            digest = _digest(sentence)
            repeated += digest in exact
            exact.add(digest)
            seen[_key(sentence)] = seen.get(_key(sentence), 0) + 1
    leaked, pairs = {}, []
    for split in (Split.VALIDATION, Split.TEST):
        found = [
            (document.id, home[key], 1.0)
            for document in pack.documents(split)
            for key in map(_key, document.sentences)
            if key in home
        ]
        leaked[str(split)] = len(found)
        pairs += found
    return DuplicateReport(
        items=items,
        exact=repeated,
        near=sum(count for count in seen.values() if count > 1),
        leaked=leaked,
        pairs=pairs[:_LISTED],
    )


def _sign(pack: ImagePack) -> tuple[NDArray[np.float32], list[bytes]]:
    """Returns `[n, 192]` unit rows, zero for a plain image, and a digest of each image's pixels."""
    edges = np.linspace(0, pack.size_px, min(_GRID, pack.size_px) + 1).astype(np.int64)[:-1]
    parts, digests = [], []
    for start in range(0, len(pack), _BLOCK):
        pixels = pack.read(np.arange(start, min(start + _BLOCK, len(pack))))
        digests += [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in pixels]
        squares = np.add.reduceat(np.add.reduceat(pixels.astype(np.float32), edges, axis=1), edges, axis=2)
        rows = squares.reshape(len(pixels), -1)
        rows -= rows.mean(axis=1, keepdims=True)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        parts.append(np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 1e-3))
    return np.concatenate(parts), digests


def _digest(sentence: str) -> bytes:
    return hashlib.blake2b(sentence.encode(), digest_size=16).digest()


def _key(sentence: str) -> bytes:
    return _digest(" ".join(sentence.casefold().split()))

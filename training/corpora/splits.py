"""Which part of the data an item belongs to: a stable function of its key, so that it never changes sides."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Split", "SplitFractions", "assign_split"]


class Split(StrEnum):
    """A part of the data."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitFractions:
    """How much is held out."""

    validation: float = 0.05
    """Share held out for choices, in [0, 1)."""
    test: float = 0.1
    """Share held out for published figures, in [0, 1)."""

    def __post_init__(self) -> None:
        held_out = self.validation + self.test
        if min(self.validation, self.test) < 0 or held_out >= 1:
            raise ValueError(
                f"validation ({self.validation}) and test ({self.test}) must be >= 0 and leave more than 0 for training"
            )


def assign_split(key: str, fractions: SplitFractions, seed: int = 0) -> Split:
    """Returns the part a key belongs to; the same in every process, whatever other items there are.

    Args:
        key: What is kept together: a document's id, a group's name.
        fractions: How much is held out.
        seed: Another seed gives another division.

    Returns:
        The part.
    """
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < fractions.test:
        return Split.TEST
    return Split.VALIDATION if place < fractions.test + fractions.validation else Split.TRAIN

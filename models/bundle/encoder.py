"""What every served encoder is, whatever it reads: prepare an item, run a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Encoder", "EncoderInfo", "Modality", "Prepared", "Purpose"]


class Modality(StrEnum):
    """What an encoder reads."""

    TEXT = "text"
    IMAGE = "image"


class Purpose(StrEnum):
    """What the vector is for; encoders trained with prompts treat the two differently."""

    DOCUMENT = "document"
    QUERY = "query"


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderInfo:
    """What callers may know of a loaded encoder."""

    name: str
    version: str
    modality: Modality
    dimension: int
    metric: str
    """`cosine`, `inner_product` or `l2`."""
    space: str
    """Vectors may be compared only where this is equal."""
    fingerprint: str
    """The exact artefact: space, precision, graph and query prompt."""
    precision: str
    """`fp32` or `int8`."""
    max_tokens: int
    """Longest text in tokens, special ones included; 0 for images."""
    image_size_px: int
    """Side of the square it sees; 0 for texts."""
    truncatable_dimensions: tuple[int, ...] = ()
    """Shorter dimensions that may be asked for."""

    @property
    def reference(self) -> str:
        """`NAME@VERSION`: this one, whatever other versions of its name there are."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Prepared:
    """One item ready for the graph."""

    array: NDArray[np.int64] | NDArray[np.float32]
    """Text: token ids `[t]`. Image: pixels `[3, h, w]`, normalised."""
    cost: int
    """Tokens of a text, pixels of an image: what a batch's budget counts."""
    truncated: bool = False
    """Whether a text was cut to the encoder's limit."""


class Encoder(Protocol):
    """An encoder as the server and offline embedding use it; safe to call from several threads."""

    @property
    def info(self) -> EncoderInfo:
        """What callers may know of it."""
        ...

    def prepare(self, item: str | bytes, *, purpose: Purpose = Purpose.DOCUMENT, truncate: bool = True) -> Prepared:
        """Turns a text, or an image's encoded bytes, into what the graph reads.

        Args:
            item: The text (`str`) or the encoded image (`bytes`).
            purpose: Chooses the prompt, where the encoder has any.
            truncate: Whether an over-long text is cut; otherwise it is refused.

        Returns:
            The prepared item.

        Raises:
            ValueError: The item cannot be used; the message says why.
        """
        ...

    def run(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        """Embeds prepared items in one call of the graph, padded to the longest.

        Args:
            batch: At least one prepared item.

        Returns:
            `[n, dimension]`, in the order given; unit rows where the metric is cosine.
        """
        ...

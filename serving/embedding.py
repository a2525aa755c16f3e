"""Embeds with whichever encoder a call means, and cuts vectors where their training allows it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from models.bundle.encoder import EncoderInfo, Modality, Purpose
from models.bundle.encodings import shorten
from serving.encoders.pool import EncoderPool
from serving.encoders.request import EmbedOutcome
from serving.errors import DeadlineExceeded, InvalidInput, Overloaded

__all__ = ["EmbedOptions", "check_output_dimension", "embed", "embed_patiently", "modality_of", "shorten"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedOptions:
    """How to embed."""

    purpose: Purpose = Purpose.DOCUMENT
    truncate: bool = True
    """Whether over-long texts are cut; otherwise they fail, each for itself."""
    deadline_s: float | None = None
    """Monotonic time after which nobody waits."""
    space: str = ""
    """Of the encoder's versions those of this embedding space come first; empty: the name alone decides."""


def modality_of(items: Sequence[str | bytes]) -> Modality:
    """Returns what a batch holds.

    Args:
        items: Texts, or encoded images; at least one.

    Returns:
        Its modality.

    Raises:
        InvalidInput: There are none, or of both kinds.
    """
    if not items:
        raise InvalidInput("a batch needs at least one input")
    kind = type(items[0])
    for index, item in enumerate(items):
        if type(item) is not kind:
            raise InvalidInput(
                f"input {index} is of another kind than input 0; send texts and images apart", index=index
            )
    return Modality.TEXT if kind is str else Modality.IMAGE


async def embed(pool: EncoderPool, name: str, items: Sequence[str | bytes], options: EmbedOptions) -> EmbedOutcome:
    """Embeds a batch.

    Args:
        pool: The encoders.
        name: Any name of the encoder.
        items: Texts, or encoded images; one of a kind that the encoder does not read is an error of its own.
        options: How.

    Returns:
        Vectors and, per failed item, an error.
    """
    return await pool.embed(
        name,
        items,
        purpose=options.purpose,
        truncate=options.truncate,
        deadline_s=options.deadline_s,
        space=options.space,
    )


async def embed_patiently(
    pool: EncoderPool, name: str, items: Sequence[str | bytes], options: EmbedOptions
) -> EmbedOutcome:
    """Embeds a batch of a stream: where the queue is full it waits, and holds the sender up by that.

    Args:
        pool: The encoders.
        name: Any name of the encoder.
        items: As for `embed`.
        options: How.

    Returns:
        Vectors and, per failed item, an error.

    Raises:
        DeadlineExceeded: The caller's deadline would pass while it waits.
    """
    while True:
        try:
            return await embed(pool, name, items, options)
        except Overloaded as error:
            if options.deadline_s is not None and time.monotonic() + error.retry_after_s >= options.deadline_s:
                raise DeadlineExceeded("the deadline passed while the queue was full; allow more time") from None
            await asyncio.sleep(error.retry_after_s)


def check_output_dimension(info: EncoderInfo, output_dimension: int) -> None:
    """Refuses a width that the encoder was not trained to be cut to.

    Args:
        info: The encoder.
        output_dimension: The width asked for; 0 means whole.

    Raises:
        InvalidInput: The encoder does not allow it.
    """
    if output_dimension in (0, info.dimension, *info.truncatable_dimensions):
        return
    allowed = ", ".join(map(str, (*info.truncatable_dimensions, info.dimension)))
    raise InvalidInput(
        f"output_dimension ({output_dimension}) must be one of {allowed} for encoder '{info.name}', or 0",
        output_dimension=output_dimension,
        encoder=info.name,
        allowed=allowed,
    )

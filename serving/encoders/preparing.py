"""Makes inputs ready for an encoder's graph: texts to tokens, images to pixels; each item fails for itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from models.bundle.encoder import Encoder, EncoderInfo, Modality, Prepared, Purpose
from models.bundle.pixels import ImageError, ImageTooLargeError
from serving.encoders.cache import KnownItem, VectorCache, item_key
from serving.errors import (
    DeadlineExceeded,
    InputTooLarge,
    InvalidInput,
    ModalityNotServed,
    ServingError,
    UndecodableImage,
)

__all__ = ["ReadyItem", "estimated_cost", "prepare_all"]


@dataclass(frozen=True, slots=True)
class ReadyItem:
    """An item that the graph can take."""

    key: bytes
    """By `item_key`."""
    prepared: Prepared


def estimated_cost(item: str | bytes, info: EncoderInfo) -> int:
    """Estimates an item's cost before it is prepared: a token is about four characters, an image is what it becomes.

    Args:
        item: A text, or an image's encoded bytes.
        info: The encoder that is to read it.

    Returns:
        Tokens or pixels.
    """
    if isinstance(item, str):
        return min(len(item) // 4 + 2, info.max_tokens)
    return info.image_size_px**2


def prepare_all(
    encoder: Encoder,
    items: Sequence[str | bytes],
    purpose: Purpose,
    truncate: bool,
    deadline_s: float | None,
    cache: VectorCache,
) -> list[ReadyItem | KnownItem | ServingError]:
    """Prepares a request's items; blocks.

    Args:
        encoder: What is to run them.
        items: Texts, or images' encoded bytes.
        purpose: Chooses the prompt, where the encoder has any.
        truncate: Whether over-long texts are cut; otherwise they fail.
        deadline_s: Monotonic time after which nobody waits.
        cache: What is known already is not prepared.

    Returns:
        For each item what the graph takes, what it gave before, or why there is nothing.

    Raises:
        DeadlineExceeded: The deadline passed on the way.
    """
    results: list[ReadyItem | KnownItem | ServingError] = []
    for item in items:
        if deadline_s is not None and time.monotonic() >= deadline_s:
            raise DeadlineExceeded("the deadline passed while the request was prepared; allow more time or send less")
        key = item_key(item, purpose=purpose, truncate=truncate)
        known = cache.get(encoder.info.fingerprint, key)
        if known is not None:
            results.append(known)
            continue
        prepared = _prepare(encoder, item, purpose, truncate)
        results.append(ReadyItem(key, prepared) if isinstance(prepared, Prepared) else prepared)
    return results


def _prepare(encoder: Encoder, item: str | bytes, purpose: Purpose, truncate: bool) -> Prepared | ServingError:
    expected: type = str if encoder.info.modality is Modality.TEXT else bytes
    if not isinstance(item, expected):
        return ModalityNotServed(f"encoder '{encoder.info.name}' reads {encoder.info.modality} only")
    try:
        return encoder.prepare(item, purpose=purpose, truncate=truncate)
    except ImageTooLargeError as error:
        return InputTooLarge(str(error))
    except ImageError as error:
        return UndecodableImage(str(error))
    except ValueError as error:
        return InvalidInput(str(error))

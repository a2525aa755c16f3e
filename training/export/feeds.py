"""Inputs as a graph reads them, one by one and unpadded: for torch, and for calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle.image_encoder import IMAGE_INPUT
from models.bundle.manifest import Prompts
from models.bundle.pixels import decode_image, normalise_image, resize_image
from models.bundle.text_encoder import TEXT_INPUTS
from models.bundle.tokens import Tokenizer
from training.export.source import ExportSource

__all__ = ["prepare_feed"]


def prepare_feed(source: ExportSource, item: str | bytes, prompts: Prompts) -> dict[str, NDArray[Any]]:
    """Prepares one input as it will be in service.

    Args:
        source: The encoder.
        item: A text, taken as a document, or an encoded image.
        prompts: What is written before it.

    Returns:
        A batch of one, by the names of the graph's inputs and in their order.

    Raises:
        ValueError: The item cannot be used.
        TypeError: It is not of the encoder's kind.
    """
    preparation = source.preparation
    if isinstance(preparation, Tokenizer) and isinstance(item, str):
        ids = preparation.encode(item, max_tokens=source.limits.max_tokens, prompt=prompts.document).ids[None]
        return dict(zip(TEXT_INPUTS, (ids, np.ones_like(ids)), strict=True))
    if isinstance(preparation, Tokenizer) or isinstance(item, str):
        raise TypeError("texts need a tokenizer and a sentence encoder, images a preprocessing and an image encoder")
    rgb = decode_image(item, preparation)
    return {IMAGE_INPUT: normalise_image(resize_image(rgb, preparation), preparation)[None]}

"""What torch makes of the golden inputs: the vectors that every graph is held to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from models.bundle.manifest import Prompts
from models.bundle.pixels import decode_image, normalise_image, resize_image
from models.bundle.tokens import Tokenizer
from models.image.served import ServedImageEncoder
from training.export.source import ExportSource

__all__ = ["embed_in_torch"]


def embed_in_torch(source: ExportSource, items: Sequence[str | bytes], prompts: Prompts) -> NDArray[np.float32]:
    """Embeds inputs one by one, unpadded, with torch: what the graph must reproduce.

    Args:
        source: The encoder.
        items: Texts or encoded images.
        prompts: Texts are taken as documents.

    Returns:
        `[n, dimension]`.
    """
    with torch.inference_mode():
        return np.concatenate([_embed_one(source, item, prompts) for item in items]).astype(np.float32)


def _embed_one(source: ExportSource, item: str | bytes, prompts: Prompts) -> NDArray[np.float32]:
    preparation, served = source.preparation, source.served
    if isinstance(preparation, Tokenizer) and not isinstance(served, ServedImageEncoder) and isinstance(item, str):
        limit = source.limits.max_tokens
        ids = torch.from_numpy(preparation.encode(item, max_tokens=limit, prompt=prompts.document).ids)[None]
        return np.asarray(served(ids, torch.ones_like(ids))[1])
    if isinstance(preparation, Tokenizer) or isinstance(item, str):
        raise TypeError("texts need a tokenizer and a sentence encoder, images a preprocessing and an image encoder")
    rgb = decode_image(item, preparation)
    pixels = normalise_image(resize_image(rgb, preparation), preparation)
    return np.asarray(served(torch.from_numpy(pixels)[None]))

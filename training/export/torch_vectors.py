"""What torch makes of the golden inputs: the vectors that every graph is held to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from models.bundle.manifest import Prompts
from models.image.served import ServedImageEncoder
from training.export.feeds import prepare_feed
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
    feed = [torch.from_numpy(array) for array in prepare_feed(source, item, prompts).values()]
    if isinstance(source.served, ServedImageEncoder):
        return np.asarray(source.served(*feed))
    return np.asarray(source.served(*feed)[1])

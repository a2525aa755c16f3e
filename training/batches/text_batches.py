"""Sentences of a tokenised corpus as a method's batch: what the feeds of texts share."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from training.batches.text_corpus import TextCorpus
from training.methods.base import TextBatch

__all__ = ["move_batch", "read_batch"]


def read_batch(corpus: TextCorpus, rows: NDArray[np.int64]) -> TextBatch:
    """Stacks sentences into a batch, on the CPU.

    Args:
        corpus: Where they are from.
        rows: `[n]`: numbers of sentences, at least one.

    Returns:
        The batch, in the order of `rows`.
    """
    input_ids, attention_mask = corpus.pad(rows)
    return TextBatch(
        input_ids=torch.from_numpy(input_ids),
        attention_mask=torch.from_numpy(attention_mask),
        document=torch.from_numpy(corpus.documents[rows]),
        sentence=torch.from_numpy(corpus.sentences[rows]),
        index=torch.from_numpy(rows),
    )


def move_batch(batch: TextBatch, device: torch.device) -> TextBatch:
    """Moves a batch to a device.

    Args:
        batch: As `read_batch` gave it.
        device: The training device.

    Returns:
        The batch there.
    """
    names = ("input_ids", "attention_mask", "document", "sentence", "index")
    return TextBatch(**{name: getattr(batch, name).to(device, non_blocking=True) for name in names})

"""Which sentences of a block are neighbours, and which may stand against them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Adjacency", "adjacency_of"]


@dataclass(frozen=True, slots=True)
class Adjacency:
    """A block's targets and candidates; row i belongs to sentence i."""

    positives: Tensor
    """`[n, n]` bool: sentence j stands within the context of sentence i."""
    negatives: Tensor
    """`[n, n]` bool: sentence j is neither sentence i, nor a positive of it, nor a copy of either."""


def adjacency_of(document: Tensor, index: Tensor, sentence: Tensor, *, context_size: int = 1) -> Adjacency:
    """Finds the neighbours of each sentence, and the sentences it is told apart from.

    A document's end breaks adjacency, but sentences of other documents stay candidates. A sentence with the text of
    sentence i is no candidate for it: predicting a copy of oneself teaches nothing. One with the text of a
    positive is no negative: it would be a false one.

    Args:
        document: `[n]` int64: number of each sentence's document.
        index: `[n]` int64: place in the corpus; neighbours differ by at most `context_size`.
        sentence: `[n]` int64: equal exactly where the texts are equal.
        context_size: How far a neighbour may stand, in sentences, at least 1.

    Returns:
        The masks; a row without positives has no target.

    Raises:
        ValueError: There are fewer than two sentences, the lengths differ, or `context_size` is below 1.
    """
    count = len(document)
    if count < 2:
        raise ValueError(f"a block needs at least 2 sentences to hold neighbours, got {count}")
    if not len(index) == len(sentence) == count:
        raise ValueError(f"document, index and sentence differ in length: {count}, {len(index)}, {len(sentence)}")
    if context_size < 1:
        raise ValueError(f"context_size ({context_size}) must be >= 1")
    distance = (index[:, None] - index[None, :]).abs()
    same_text = sentence[:, None] == sentence[None, :]
    near = (distance >= 1) & (distance <= context_size) & (document[:, None] == document[None, :])
    positives = near & ~same_text
    # [i, j]: some positive p of i has the text of j. Floats, because integer products are slow on a GPU.
    copies = (positives.float() @ same_text.float()) > 0
    negatives = ~(same_text | positives | copies)
    return Adjacency(positives, negatives & ~torch.eye(count, dtype=torch.bool, device=document.device))

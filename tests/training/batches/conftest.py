"""Corpora in which a sentence's tokens say where it stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from training.batches.text_corpus import TextCorpus, tokenise_corpus


@dataclass(frozen=True)
class Ids:
    ids: NDArray[np.int64]


class WordTokenizer:
    """One token a word: the length of the word plus 10."""

    pad_id = 3

    def encode_batch(self, texts: Sequence[str], *, max_tokens: int) -> list[Ids]:
        return [Ids(np.array([10 + len(word) for word in text.split()][:max_tokens])) for text in texts]


@pytest.fixture
def corpus_of() -> Callable[..., TextCorpus]:
    def build(*documents: Sequence[str], max_tokens: int = 50) -> TextCorpus:
        return tokenise_corpus(documents, WordTokenizer(), max_tokens=max_tokens)

    return build

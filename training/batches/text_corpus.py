"""A tokenised corpus in memory: flat ids, where each sentence starts, and which document it is from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["SentenceTokenizer", "TextCorpus", "TokenIds", "tokenise_corpus"]

_CHUNK = 4096
"""Sentences handed to the tokenizer at once."""


class TokenIds(Protocol):
    """One tokenised text."""

    @property
    def ids(self) -> NDArray[np.int64]:
        """`[t]`, special tokens included."""
        ...


class SentenceTokenizer(Protocol):
    """What a corpus asks of a tokenizer; `models.bundle.tokens.Tokenizer` has it."""

    @property
    def pad_id(self) -> int:
        """Id that fills short rows."""
        ...

    def encode_batch(self, texts: Sequence[str], *, max_tokens: int) -> Sequence[TokenIds]:
        """Tokenises texts, cut to `max_tokens`."""
        ...


@dataclass(frozen=True, slots=True)
class TextCorpus:
    """Tokenised sentences in document order."""

    tokens: NDArray[np.int32]
    """`[all tokens]`."""
    starts: NDArray[np.int64]
    """`[n + 1]`: sentence i is `tokens[starts[i]:starts[i + 1]]`."""
    documents: NDArray[np.int64]
    """`[n]`: number of each sentence's document, rising."""
    sentences: NDArray[np.int64]
    """`[n]`: equal exactly where two sentences' texts are equal."""
    pad_id: int
    """Id that fills short rows."""

    def __len__(self) -> int:
        """Number of sentences."""
        return len(self.documents)

    @property
    def document_starts(self) -> NDArray[np.int64]:
        """`[documents + 1]`: document j's sentences are `document_starts[j]` up to `document_starts[j + 1]`."""
        first = np.flatnonzero(np.diff(self.documents, prepend=-1))
        return np.append(first, len(self.documents))

    def pad(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Stacks sentences, filled on the right to the longest.

        Args:
            rows: `[m]`, at least one sentence number.

        Returns:
            Ids and attention mask (1 for tokens, 0 for filling), both `[m, t]`.
        """
        lengths = self.starts[rows + 1] - self.starts[rows]
        columns = np.arange(int(lengths.max()))
        mask = columns[None, :] < lengths[:, None]  # [m, t]
        places = np.where(mask, self.starts[rows][:, None] + columns[None, :], 0)
        ids = np.where(mask, self.tokens[places], self.pad_id)
        return ids.astype(np.int64), mask.astype(np.int64)


def tokenise_corpus(documents: Iterable[Sequence[str]], tokenizer: SentenceTokenizer, *, max_tokens: int) -> TextCorpus:
    """Tokenises documents, once, into memory (four bytes a token).

    Args:
        documents: The sentences of each document, in order; blank sentences and empty documents are left out.
        tokenizer: Its tokenizer.
        max_tokens: Longest sentence, special tokens included; longer ones are cut, not dropped.

    Returns:
        The corpus.

    Raises:
        ValueError: No sentence is left.
    """
    texts: list[str] = []
    numbers: list[int] = []
    for number, document in enumerate(documents):
        kept = [sentence for sentence in document if sentence.strip()]
        texts.extend(kept)
        numbers.extend([number] * len(kept))
    if not texts:
        raise ValueError("the corpus has no sentence to train on; check the documents, or the split's fractions")
    rows: list[NDArray[np.int32]] = []
    for start in range(0, len(texts), _CHUNK):
        encoded = tokenizer.encode_batch(texts[start : start + _CHUNK], max_tokens=max_tokens)
        rows.extend(row.ids.astype(np.int32) for row in encoded)
    known: dict[str, int] = {}
    return TextCorpus(
        tokens=np.concatenate(rows),
        starts=np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64),
        documents=np.asarray(numbers, dtype=np.int64),
        sentences=np.asarray([known.setdefault(text, len(known)) for text in texts], dtype=np.int64),
        pad_id=tokenizer.pad_id,
    )

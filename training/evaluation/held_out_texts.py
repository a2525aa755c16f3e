"""Held-out documents and a subject's vectors of them, shared by the text tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.corpora.document import Document
from training.evaluation.measurement import TaskUnavailableError
from training.evaluation.next_sentence import DEFAULT_POOL_SIZE
from training.evaluation.subjects import Advance, TextSubject, TowerSubject
from training.evaluation.vectors import Vectors

__all__ = ["HeldOutTexts", "TextTaskConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTaskConfig:
    """Settings of the text tasks."""

    pool_size: int = DEFAULT_POOL_SIZE
    """Sentences in a pool of next-sentence candidates."""
    max_articles: int = 2000
    """Most articles in the gallery of description retrieval: the first of the split."""
    bank_documents: int = 2000
    """Most training documents that vote on topics: the first of the split."""
    topic_neighbours: int = 10
    """Documents that vote on a topic."""


class HeldOutTexts:
    """A subject's vectors of the texts that several tasks share, each computed once.

    Args:
        subject: What embeds.
        documents: The held-out documents.
        bank: The training documents, which only votes on topics read.
        advance: Told of progress.
    """

    def __init__(
        self,
        subject: TextSubject,
        documents: Sequence[Document],
        bank: Sequence[Document] = (),
        advance: Advance | None = None,
    ) -> None:
        self.subject = subject
        self.documents = list(documents)  # a pack reads each from disk whenever it is asked
        self.bank = bank
        self.sentences = [sentence for document in self.documents for sentence in document.sentences]
        self.document_numbers = np.repeat(
            np.arange(len(self.documents)), [len(document.sentences) for document in self.documents]
        )
        """`[n]`: document of each sentence."""
        self.text_numbers: NDArray[np.int64] = np.unique(np.asarray(self.sentences), return_inverse=True)[1]
        """`[n]`: equal exactly where texts are equal."""
        self._advance = advance
        self._sentence_vectors: Vectors | None = None

    @property
    def sentence_vectors(self) -> Vectors:
        """`[n, d]`: each sentence as served."""
        if self._sentence_vectors is None:
            self._sentence_vectors = self.embed(self.sentences)
        return self._sentence_vectors

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embeds texts as served.

        Args:
            texts: At least one.

        Returns:
            `[n, d]`.

        Raises:
            TaskUnavailableError: There is no text.
        """
        if not texts:
            raise TaskUnavailableError("there is no text to embed: the split holds no documents")
        return self.subject.embed_texts(texts, self._advance)

    def embed_towers(self) -> tuple[Vectors, Vectors] | None:
        """Embeds each sentence as training compares them.

        Returns:
            f and g; None where the subject has no training score.
        """
        if not isinstance(self.subject, TowerSubject):
            return None
        return self.subject.embed_towers(self.sentences, self._advance)

"""What is measured on held-out data while a run goes on: next-sentence MRR for text, k-NN for labelled images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from models.text.served import ServedTextEncoder
from training.batches.text_corpus import TextCorpus
from training.evaluation.next_sentence import rank_next_sentences
from training.methods.base import Method

__all__ = ["Evaluator", "NextSentenceEvaluator"]

_SENTENCES_PER_BATCH = 256


class Evaluator(Protocol):
    """Measures a method at intervals, without changing it."""

    def measure(self, method: Method) -> Mapping[str, float]:
        """Measures the method as it stands.

        Args:
            method: In evaluation mode, without gradients.

        Returns:
            Figures by name, for the log.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class NextSentenceEvaluator:
    """Finds each held-out sentence's successor, by the training score and by the cosine that is served."""

    corpus: TextCorpus
    """Held-out documents."""
    served: ServedTextEncoder
    """The encoder as it is served, sharing its towers with the method."""
    pool_size: int = 1000
    """Sentences in a pool of candidates."""
    max_sentences: int = 4000
    """Only the first so many are read, so that a measurement stays short."""

    def measure(self, method: Method) -> Mapping[str, float]:
        """Measures held-out next-sentence MRR.

        Args:
            method: The method; its towers are `served`'s.

        Returns:
            `validation_mrr_served`, by the served cosine, and with two towers `validation_mrr`, by f·g.
        """
        device = next(method.parameters()).device
        count = min(len(self.corpus), self.max_sentences)
        parts = [self._embed(rows, device) for rows in _batches(count)]
        f, g, embeddings = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
        documents, sentences = self.corpus.documents[:count], self.corpus.sentences[:count]
        sides = {"validation_mrr_served": (embeddings, embeddings)}
        if len(self.served.towers) == 2:
            sides["validation_mrr"] = (f, g)
        return {
            name: rank_next_sentences(query, candidate, documents, sentences, pool_size=self.pool_size).mrr
            for name, (query, candidate) in sides.items()
        }

    def _embed(self, rows: NDArray[np.int64], device: torch.device) -> tuple[torch.Tensor, ...]:
        ids, mask = (torch.from_numpy(array).to(device) for array in self.corpus.pad(rows))
        pooled = [tower(ids, mask).pooled.float() for tower in self.served.towers]
        served = torch.cat([F.normalize(vectors, dim=1) for vectors in pooled], dim=1) / len(pooled) ** 0.5
        return tuple(vectors.cpu() for vectors in (pooled[0], pooled[-1], served))


def _batches(count: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, count, _SENTENCES_PER_BATCH):
        yield np.arange(start, min(start + _SENTENCES_PER_BATCH, count))

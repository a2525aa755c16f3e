"""Next-sentence retrieval: does an encoder know which sentence comes next? It needs no labels.

A query is sentence i; its only answer is sentence i+1 of the same document. Candidates are the distinct texts of
a fixed pool of contiguous held-out sentences, without the query's own text. Ties are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.ranks import mean_reciprocal_rank, pessimistic_ranks
from training.evaluation.vectors import Vectors, row_count, score_matrix

__all__ = ["DEFAULT_POOL_SIZE", "NextSentenceRanks", "next_sentence_mrr", "rank_next_sentences"]

DEFAULT_POOL_SIZE = 1000
"""Sentences in a pool of candidates."""


@dataclass(frozen=True, slots=True)
class NextSentenceRanks:
    """One rank per answerable query."""

    ranks: NDArray[np.int64]
    """`[q]`, from 1."""
    queries: NDArray[np.int64]
    """`[q]`: row of each query in the embeddings."""
    documents: NDArray[np.int64]
    """`[q]`: document of each query; intervals are drawn over these."""
    pool_size: int
    """Sentences in each pool: as asked for, or all there are where there are fewer."""
    pool_count: int

    @property
    def mrr(self) -> float:
        """Mean reciprocal rank, in (0, 1]."""
        return mean_reciprocal_rank(self.ranks)


def rank_next_sentences(
    query_embeddings: Vectors,
    candidate_embeddings: Vectors,
    documents: NDArray[np.int64],
    sentences: NDArray[np.int64],
    *,
    pool_size: int = DEFAULT_POOL_SIZE,
) -> NextSentenceRanks:
    """Ranks the next sentence of every sentence that has one within its pool.

    Pools start at 0, `pool_size`, …; the last one ends with the last sentence and may overlap the one before it. Each
    query is asked once, in the first pool that holds both it and its answer. A sentence followed by its own text is no
    query.

    Args:
        query_embeddings: `[n, d]`, corpus order: f of each sentence, or the served unit vector.
        candidate_embeddings: `[n, d]`: g of each sentence, or the served unit vector again; scores are inner products.
        documents: `[n]`: number of each sentence's document; equal numbers are contiguous.
        sentences: `[n]`: equal exactly where two sentences' texts are equal.
        pool_size: Sentences per pool, at least 3.

    Returns:
        The ranks, with the pool size that was used.

    Raises:
        ValueError: The lengths differ, the pool size is below 3, or no sentence has a successor.

    Source: Logeswaran & Lee 2018, arXiv:1803.02893 (the task). Differs: only the next sentence is right, documents end
    adjacency, and duplicates are one candidate.
    """
    count = len(documents)
    lengths = (row_count(query_embeddings), row_count(candidate_embeddings), count, len(sentences))
    if len(set(lengths)) != 1:
        raise ValueError(f"queries, candidates, documents and sentences must be equally long, got {lengths}")
    if pool_size < 3:
        raise ValueError(f"pool_size ({pool_size}) must be at least 3: a query, its answer and one other sentence")
    answerable = np.zeros(count, dtype=np.bool_)
    answerable[:-1] = (documents[:-1] == documents[1:]) & (sentences[:-1] != sentences[1:])
    if not answerable.any():
        raise ValueError("no sentence is followed by another of its document; next-sentence needs running text")
    size = min(pool_size, count)
    starts = _pool_starts(count, size)
    ranks, queries = [], []
    for start in starts:
        rows = np.flatnonzero(answerable[start : start + size - 1]) + start
        answerable[rows] = False  # each query is asked once
        if len(rows):
            pool = slice(start, start + size)
            ranks.append(_rank_pool(query_embeddings[rows], candidate_embeddings[pool], sentences[pool], rows - start))
            queries.append(rows)
    asked = np.concatenate(queries)
    return NextSentenceRanks(np.concatenate(ranks), asked, documents[asked], size, len(starts))


def next_sentence_mrr(
    query_embeddings: Vectors,
    candidate_embeddings: Vectors,
    documents: NDArray[np.int64],
    sentences: NDArray[np.int64],
    *,
    pool_size: int = DEFAULT_POOL_SIZE,
) -> float:
    """Returns the mean reciprocal rank of the next sentence; see `rank_next_sentences`.

    Args:
        query_embeddings: `[n, d]`.
        candidate_embeddings: `[n, d]`.
        documents: `[n]`.
        sentences: `[n]`.
        pool_size: Sentences per pool.

    Returns:
        The mean over queries, in (0, 1].
    """
    return rank_next_sentences(query_embeddings, candidate_embeddings, documents, sentences, pool_size=pool_size).mrr


def _pool_starts(count: int, size: int) -> list[int]:
    starts = list(range(0, count - size + 1, size))
    if starts[-1] + size < count:
        starts.append(count - size)
    return starts


def _rank_pool(
    queries: Vectors,
    candidates: Vectors,
    sentences: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Ranks within one pool; `rows` are the queries' places in it."""
    _, first, text = np.unique(sentences, return_index=True, return_inverse=True)
    scores = score_matrix(queries, candidates[first])  # [m, distinct texts]
    texts = np.arange(len(first))
    positives = texts[None, :] == text[rows + 1][:, None]
    own = texts[None, :] == text[rows][:, None]
    return pessimistic_ranks(scores, positives, own)

"""Retrieval: is the right item of the gallery nearest? Right is every gallery item with the query's id."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.evaluation.ranks import pessimistic_ranks
from training.evaluation.vectors import Vectors, row_count, score_matrix, unit_rows

__all__ = ["rank_retrieval"]

_SCORES_PER_BLOCK = 16_000_000
"""Scores held at once: 128 MB of float64."""


def rank_retrieval(
    queries: Vectors,
    gallery: Vectors,
    query_ids: NDArray[np.int64],
    gallery_ids: NDArray[np.int64],
    own_rows: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Ranks each query's best answer by cosine, ties counted as wrong.

    Args:
        queries: `[m, d]`.
        gallery: `[n, d]`.
        query_ids: `[m]`: what each query shows or means: a concept, or a group of concepts.
        gallery_ids: `[n]`: the same of the gallery; all items with the query's id are right.
        own_rows: `[m]`: the gallery row that is the query itself, neither right nor wrong; None where there is none.

    Returns:
        `[m]`, from 1.

    Raises:
        ValueError: Ids and vectors differ in length, or a query has no answer in the gallery.

    Source: pair retrieval as in sentence-transformers' TranslationEvaluator. Differs: ties, several right answers.
    """
    query_count, gallery_count = row_count(queries), row_count(gallery)
    if query_count != len(query_ids) or gallery_count != len(gallery_ids):
        raise ValueError(
            f"each vector needs an id, got {query_count} queries with {len(query_ids)} ids "
            f"and {gallery_count} gallery items with {len(gallery_ids)}"
        )
    unit_queries, unit_gallery = unit_rows(queries), unit_rows(gallery)
    block = max(1, _SCORES_PER_BLOCK // max(1, gallery_count))
    ranks = []
    for start in range(0, query_count, block):
        part = slice(start, start + block)
        positives = query_ids[part, None] == gallery_ids[None, :]
        excluded = None
        if own_rows is not None:
            excluded = np.zeros(positives.shape, dtype=np.bool_)
            excluded[np.arange(len(positives)), own_rows[part]] = True
            positives &= ~excluded
        ranks.append(pessimistic_ranks(score_matrix(unit_queries[part], unit_gallery), positives, excluded))
    return np.concatenate(ranks) if ranks else np.array([], dtype=np.int64)

"""Next-sentence ranks by hand-made embeddings, where every rank is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from training.evaluation.next_sentence import next_sentence_mrr, rank_next_sentences


def one_hot(rows: list[int], width: int) -> NDArray[np.float32]:
    return np.eye(width, dtype=np.float32)[rows]


def naive_ranks(
    f: NDArray[np.float32], g: NDArray[np.float32], documents: NDArray[np.int64], texts: NDArray[np.int64], size: int
) -> dict[int, int]:
    """Follows the definition sentence by sentence, one pool after the other."""
    count, ranks = len(documents), dict[int, int]()
    starts = [*range(0, count - size + 1, size)]
    if starts[-1] + size < count:
        starts.append(count - size)
    for start in starts:
        for i in range(start, start + size - 1):
            if i in ranks or documents[i] != documents[i + 1] or texts[i] == texts[i + 1]:
                continue
            candidates = {int(texts[j]): g[j] for j in reversed(range(start, start + size)) if texts[j] != texts[i]}
            right = f[i] @ candidates.pop(int(texts[i + 1]))
            ranks[i] = 1 + sum(bool(f[i] @ other >= right) for other in candidates.values())
    return ranks


def test_perfect_forward_encoder_ranks_every_answer_first() -> None:
    f = one_hot([1, 2, 3, 4, 5, 0], 6)  # f of i points at g of i+1
    g = one_hot([0, 1, 2, 3, 4, 5], 6)
    documents = np.zeros(6, dtype=np.int64)
    result = rank_next_sentences(f, g, documents, np.arange(6), pool_size=6)
    assert result.ranks.tolist() == [1, 1, 1, 1, 1]
    assert result.queries.tolist() == [0, 1, 2, 3, 4]
    assert result.mrr == 1.0


def test_direction_matters() -> None:
    f = one_hot([5, 0, 1, 2, 3, 4], 6)  # f points at the sentence before: the forward answer ties with the rest
    g = one_hot([0, 1, 2, 3, 4, 5], 6)
    result = rank_next_sentences(f, g, np.zeros(6, dtype=np.int64), np.arange(6), pool_size=6)
    # 4 candidates beside the answer, all at or above it (0 ties 0).
    assert result.ranks.tolist() == [5, 5, 5, 5, 5]


def test_collapsed_encoder_ranks_every_answer_last() -> None:
    vectors = np.full((8, 3), 0.3, dtype=np.float32)
    result = rank_next_sentences(vectors, vectors, np.zeros(8, dtype=np.int64), np.arange(8), pool_size=8)
    assert result.ranks.tolist() == [7] * 7


def test_documents_end_adjacency() -> None:
    vectors = np.eye(5, dtype=np.float32)
    documents = np.array([0, 0, 1, 1, 2], dtype=np.int64)
    result = rank_next_sentences(vectors, vectors, documents, np.arange(5), pool_size=5)
    assert result.queries.tolist() == [0, 2]
    assert result.documents.tolist() == [0, 1]


def test_query_itself_is_no_candidate() -> None:
    vectors = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], dtype=np.float32)
    result = rank_next_sentences(vectors, vectors, np.array([0, 0, 1]), np.arange(3), pool_size=3)
    assert result.ranks.tolist() == [1]


def test_duplicates_of_query_and_answer_are_no_negatives() -> None:
    # Texts: a b a b c. Query 0 (a): its answer b occurs twice, its own text once more.
    texts = np.array([0, 1, 0, 1, 2])
    vectors = np.eye(3, dtype=np.float32)[texts]
    f = np.array([[1.0, 0.5, 0.1]] * 5, dtype=np.float32)
    result = rank_next_sentences(f, vectors, np.array([0, 0, 1, 2, 3]), texts, pool_size=5)
    assert result.queries.tolist() == [0]
    assert result.ranks.tolist() == [1]


def test_sentence_followed_by_its_own_text_is_no_query() -> None:
    texts = np.array([0, 0, 1, 2])
    vectors = np.eye(3, dtype=np.float32)[texts]
    result = rank_next_sentences(vectors, vectors, np.zeros(4, dtype=np.int64), texts, pool_size=4)
    assert result.queries.tolist() == [1, 2]


@pytest.mark.parametrize(("count", "size"), [(40, 10), (47, 10), (31, 30), (10, 10)])
def test_ranks_follow_the_definition(count: int, size: int) -> None:
    rng = np.random.default_rng(count)
    texts = rng.integers(0, count * 2 // 3, size=count)
    f = rng.normal(size=(count, 4)).astype(np.float32)
    by_text = rng.normal(size=(count, 4)).astype(np.float32)
    documents = np.sort(rng.integers(0, 5, size=count))
    result = rank_next_sentences(f, by_text[texts], documents, texts, pool_size=size)
    found = dict(zip(result.queries.tolist(), result.ranks.tolist(), strict=True))
    assert found == naive_ranks(f, by_text[texts], documents, texts, size)


def test_last_pool_is_as_large_as_the_others_and_asks_no_query_twice() -> None:
    vectors = np.random.default_rng(0).normal(size=(25, 8)).astype(np.float32)
    result = rank_next_sentences(vectors, vectors, np.zeros(25, dtype=np.int64), np.arange(25), pool_size=10)
    assert (result.pool_size, result.pool_count) == (10, 3)
    # 9 and 19 end their pools; 19 and its answer meet again in the last one, which starts at 15.
    assert result.queries.tolist() == [i for i in range(24) if i != 9]


def test_fewer_sentences_than_a_pool_are_one_pool_and_said_so() -> None:
    vectors = np.eye(4, dtype=np.float32)
    result = rank_next_sentences(vectors, vectors, np.zeros(4, dtype=np.int64), np.arange(4))
    assert (result.pool_size, result.pool_count) == (4, 1)


def test_mrr_is_the_mean_of_reciprocal_ranks() -> None:
    f = np.array([[0, 1, 2, 3], [3, 2, 0, 1], [0, 0, 0, 1]], dtype=np.float32)
    f = np.vstack([f, np.zeros((1, 4), dtype=np.float32)])
    mrr = next_sentence_mrr(f, np.eye(4, dtype=np.float32), np.zeros(4, dtype=np.int64), np.arange(4), pool_size=4)
    assert mrr == pytest.approx((1 / 3 + 1 / 3 + 1) / 3)


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"equally long, got \(3, 3, 2, 3\)"):
        rank_next_sentences(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), np.zeros(2, int), np.arange(3))


def test_text_without_successors_is_refused() -> None:
    vectors = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match="needs running text"):
        rank_next_sentences(vectors, vectors, np.arange(3), np.arange(3))

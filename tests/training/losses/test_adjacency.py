from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.losses.adjacency import Adjacency, adjacency_of


def block(document: list[int], sentence: list[int] | None = None, *, context_size: int = 1) -> Adjacency:
    count = len(document)
    texts = sentence if sentence is not None else list(range(count))
    return adjacency_of(torch.tensor(document), torch.arange(count), torch.tensor(texts), context_size=context_size)


def pairs(mask: Tensor) -> set[tuple[int, int]]:
    return {(i, j) for i, j in mask.nonzero().tolist()}


def test_neighbours_are_positives_and_all_others_negatives() -> None:
    found = block([0, 0, 0, 0])
    assert pairs(found.positives) == {(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)}
    assert pairs(found.negatives) == {(0, 2), (0, 3), (1, 3), (2, 0), (3, 0), (3, 1)}


def test_a_wider_context_reaches_further() -> None:
    assert pairs(block([0, 0, 0, 0], context_size=2).positives) >= {(0, 1), (0, 2), (3, 1)}
    assert (0, 3) not in pairs(block([0, 0, 0, 0], context_size=2).positives)


def test_a_document_break_ends_adjacency_but_not_candidacy() -> None:
    found = block([4, 4, 9, 9])
    assert pairs(found.positives) == {(0, 1), (1, 0), (2, 3), (3, 2)}
    assert {(1, 2), (2, 1), (0, 3)} <= pairs(found.negatives)


def test_sentences_apart_in_the_corpus_are_no_neighbours() -> None:
    found = adjacency_of(torch.zeros(3, dtype=torch.int64), torch.tensor([5, 6, 9]), torch.arange(3))
    assert pairs(found.positives) == {(0, 1), (1, 0)}


def test_copies_of_the_sentence_are_neither_positive_nor_negative() -> None:
    found = block([0, 0, 0, 0], sentence=[1, 1, 2, 1])
    for i, j in [(0, 1), (1, 0), (0, 3), (1, 3)]:
        assert (i, j) not in pairs(found.positives) | pairs(found.negatives)


def test_copies_of_a_positive_are_not_negatives() -> None:
    # Sentence 4 has the text of sentence 1, which is a positive of 0 and of 2.
    negatives = pairs(block([0, 0, 0, 0, 0], sentence=[0, 7, 2, 3, 7]).negatives)
    assert (0, 4) not in negatives
    assert (2, 4) not in negatives
    assert (0, 3) in negatives


def test_bad_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 sentences"):
        block([0])
    with pytest.raises(ValueError, match=r"context_size \(0\)"):
        block([0, 0], context_size=0)
    with pytest.raises(ValueError, match="2, 3, 2"):
        adjacency_of(torch.zeros(2), torch.arange(3), torch.arange(2))

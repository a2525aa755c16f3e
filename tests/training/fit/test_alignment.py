from __future__ import annotations

import pytest
import torch

from training.fit.alignment import batch_alignment
from training.methods.base import ImageBatch, TextBatch

X, Y = [1.0, 0.0], [0.0, 1.0]


def text_batch(documents: list[int], index: list[int]) -> TextBatch:
    ids = torch.zeros(len(documents), 1, dtype=torch.int64)
    return TextBatch(ids, ids, torch.tensor(documents), torch.tensor(index), torch.tensor(index))


def test_adjacent_sentences_of_one_document_are_the_pairs() -> None:
    batch = text_batch([0, 0, 1, 1], [10, 11, 12, 13])

    # Pairs (x, y) and (y, y); the border between the documents, (y, y) too, does not count.
    assert batch_alignment(batch, torch.tensor([X, Y, Y, Y])) == {"alignment": pytest.approx(1.0)}


def test_one_document_laid_end_to_start_is_no_pair() -> None:
    assert batch_alignment(text_batch([0, 0], [11, 10]), torch.tensor([X, Y])) == {}


def test_the_views_of_an_image_are_the_pairs() -> None:
    batch = ImageBatch((torch.zeros(2, 3, 1, 1),) * 2, torch.arange(2))

    assert batch_alignment(batch, torch.tensor([X, Y, Y, Y]) * 3) == {"alignment": pytest.approx(1.0)}
    assert batch_alignment(batch, torch.tensor([X, Y])) == {}

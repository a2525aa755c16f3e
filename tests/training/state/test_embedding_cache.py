from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.state.embedding_cache import EmbeddingCache


def rows(*values: float) -> Tensor:
    return torch.tensor([[value, 1.0] for value in values])


def test_nothing_is_known_before_the_second_visit() -> None:
    cache = EmbeddingCache(4, 2)
    everything = torch.arange(4)
    assert cache.previous(everything).known.tolist() == [False] * 4
    cache.write(rows(1, 2), torch.tensor([3, 0]))
    assert cache.previous(everything).known.tolist() == [False] * 4
    cache.write(rows(5), torch.tensor([3]))
    assert cache.previous(everything).known.tolist() == [False, False, False, True]


def test_the_previous_embedding_is_of_the_visit_before_the_last() -> None:
    cache = EmbeddingCache(3, 2)
    visits: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for number, image in enumerate([0, 1, 0, 2, 0, 1, 1, 0, 2, 1]):
        cache.write(rows(number), torch.tensor([image]))
        visits[image].append(number)
        for place, seen in visits.items():
            previous = cache.previous(torch.tensor([place]))
            assert previous.known.item() == (len(seen) >= 2)
            if len(seen) >= 2:
                assert previous.rows[0, 0].item() == seen[-2]


def test_a_restored_cache_goes_on_exactly() -> None:
    cache, restored = EmbeddingCache(3, 2), EmbeddingCache(3, 2)
    cache.write(rows(1, 2), torch.tensor([0, 1]))
    restored.load_state_dict(cache.state_dict())
    for each in (cache, restored):
        each.write(rows(3), torch.tensor([0]))  # without the counts it would be written over the first visit's
    assert restored.previous(torch.tensor([0])).rows[0, 0].item() == 1
    assert restored.state_dict().keys() == {"vectors", "visits"}
    assert all(torch.equal(restored.state_dict()[key], value) for key, value in cache.state_dict().items())


def test_rows_are_stored_detached_in_fp32_and_given_as_copies() -> None:
    cache = EmbeddingCache(2, 2)
    written = rows(1, 2).to(torch.bfloat16).requires_grad_()
    cache.write(written, torch.tensor([0, 1]))
    cache.write(written, torch.tensor([0, 1]))
    previous = cache.previous(torch.tensor([0, 1]))
    assert (previous.rows.dtype, previous.rows.requires_grad) == (torch.float32, False)
    cache.write(rows(8, 9), torch.tensor([0, 1]))
    assert previous.rows[:, 0].tolist() == [1, 2]


def test_what_does_not_fit_is_refused() -> None:
    cache = EmbeddingCache(2, 2)
    with pytest.raises(ValueError, match=r"rows \[m, 2\] and index \[m\], got \[1, 3\] and \[1\]"):
        cache.write(torch.zeros(1, 3), torch.tensor([0]))
    with pytest.raises(ValueError, match=r"got \[1, 2\] and \[2\]"):
        cache.write(torch.zeros(1, 2), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="got 0 of width 2"):
        EmbeddingCache(0, 2)
    with pytest.raises(ValueError, match="got 3 of width 0"):
        EmbeddingCache(3, 0)

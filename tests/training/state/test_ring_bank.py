from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.state.purity import neighbour_purity
from training.state.ring_bank import RingBank, check_bank_size


def rows(*values: float) -> Tensor:
    return torch.tensor([[value, 1.0] for value in values])


def test_bank_starts_empty_and_fills() -> None:
    bank = RingBank(5, 2)
    assert bank.filled == 0
    assert bank.enqueue(rows(1, 2), torch.tensor([7, 8])).tolist() == [0, 1]
    assert bank.filled == 2
    assert bank.position == 2
    torch.testing.assert_close(bank.valid, rows(1, 2))
    assert bank.valid_index.tolist() == [7, 8]


def test_a_batch_that_crosses_the_end_wraps_and_drops_nothing() -> None:
    bank = RingBank(5, 2)
    bank.enqueue(rows(0, 1, 2, 3), torch.arange(4))
    slots = bank.enqueue(rows(4, 5, 6), torch.tensor([4, 5, 6]))
    assert slots.tolist() == [4, 0, 1]
    assert bank.filled == 5
    torch.testing.assert_close(bank.valid, rows(5, 6, 2, 3, 4))
    assert bank.index.tolist() == [5, 6, 2, 3, 4]
    assert bank.position == 2


def test_always_the_latest_rows_are_held() -> None:
    bank, latest = RingBank(7, 2), 0
    for count in (3, 7, 2, 5, 1, 6):
        bank.enqueue(rows(*range(latest, latest + count)), torch.arange(latest, latest + count))
        latest += count
    assert sorted(bank.index.tolist()) == list(range(latest - 7, latest))


def test_bad_batches_are_refused() -> None:
    bank = RingBank(2, 2)
    with pytest.raises(ValueError, match="batch of 3 does not fit into a bank of 2"):
        bank.enqueue(rows(1, 2, 3), torch.arange(3))
    with pytest.raises(ValueError, match=r"got \[1, 3\] and \[1\]"):
        bank.enqueue(torch.zeros(1, 3), torch.arange(1))
    with pytest.raises(ValueError, match="size 0"):
        RingBank(0, 2)


def test_rows_are_constants_in_full_precision() -> None:
    bank = RingBank(2, 2)
    bank.enqueue(rows(1.0).to(torch.bfloat16).requires_grad_(), torch.arange(1))
    assert bank.vectors.dtype == torch.float32
    assert not bank.vectors.requires_grad


def test_restored_bank_goes_on_where_it_was() -> None:
    bank, restored = RingBank(5, 2), RingBank(5, 2)
    bank.enqueue(rows(0, 1, 2, 3), torch.arange(4))
    restored.load_state_dict(bank.state_dict())
    for each in (bank, restored):
        each.enqueue(rows(4, 5), torch.tensor([4, 5]))
    torch.testing.assert_close(restored.vectors, bank.vectors)
    assert restored.index.tolist() == bank.index.tolist() == [5, 1, 2, 3, 4]
    assert restored.position == 1


def test_self_fraction_counts_old_copies_but_not_the_row_just_written() -> None:
    bank = RingBank(6, 2)
    bank.enqueue(rows(0, 1, 2, 3), torch.tensor([10, 11, 12, 13]))
    own = bank.enqueue(rows(4, 5), torch.tensor([10, 12]))
    neighbours = torch.tensor([[4, 0, 1], [5, 3, 1]])  # image 10 meets its old row 0; image 12 does not meet row 2
    assert bank.self_fraction(neighbours, own, torch.tensor([10, 12])).item() == pytest.approx(1 / 4)
    assert bank.self_fraction(own[:, None], own, torch.tensor([10, 12])).item() == 0


def test_purity_counts_labelled_neighbours_other_than_the_query() -> None:
    bank = RingBank(8, 2)
    angles = torch.tensor([0.0, 0.1, 1.5, 1.6, 3.0])
    bank.enqueue(torch.stack([angles.cos(), angles.sin()], dim=1), torch.tensor([4, 3, 2, 1, 0]))
    labels = torch.tensor([-1, 1, 0, 5, 5])  # of images 0 to 4
    # Image 4 and 3 agree, 2 and 1 differ; image 0 has no label.
    assert neighbour_purity(bank, labels, neighbour_count=1) == pytest.approx(2 / 4)
    with pytest.raises(ValueError, match="holds 5 rows"):
        neighbour_purity(bank, labels, neighbour_count=5)


@pytest.mark.parametrize(("bank_size", "legal"), [(64, True), (99, True), (100, False), (63, False)])
def test_bank_holds_a_batch_and_stays_below_the_data_set_minus_a_batch(bank_size: int, legal: bool) -> None:
    if legal:
        check_bank_size(bank_size, dataset_size=164, batch_size=64)
        return
    with pytest.raises(ValueError, match=rf"bank_size \({bank_size}\) must be in \[64, 99\]"):
        check_bank_size(bank_size, dataset_size=164, batch_size=64)


def test_a_data_set_too_small_for_any_bank_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="use batches below 50, or more images"):
        check_bank_size(64, dataset_size=100, batch_size=64)

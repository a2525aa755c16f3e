from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from training.losses.neighbours import Neighbours, mean_distance, nearest_neighbours
from training.methods.image.mean_shift import mean_shift_loss

TARGET = torch.tensor([[1.0, 0.0]])
BANK = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]])
PREDICTION = torch.tensor([[0.6, 0.8]])


def unit(count: int, *, seed: int) -> Tensor:
    return F.normalize(torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize(("neighbour_count", "expected"), [(1, 0.8), (2, 0.44), (3, 0.426667)])
def test_loss_equals_the_worked_numbers(neighbour_count: int, expected: float) -> None:
    loss = mean_shift_loss(PREDICTION, TARGET, BANK, neighbour_count=neighbour_count)
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_restricted_neighbours_give_the_worked_number() -> None:
    allowed = torch.tensor([[True, False, True, False]])
    found = nearest_neighbours(TARGET, BANK, count=2, allowed=allowed)
    assert found.slots.tolist() == [[0, 2]]
    assert mean_distance(PREDICTION, BANK, found).item() == pytest.approx(0.6, abs=1e-5)


def test_fewer_allowed_rows_than_neighbours_average_over_what_there_is() -> None:
    found = nearest_neighbours(TARGET, BANK, count=3, allowed=torch.tensor([[False, False, True, False]]))
    assert found.valid.tolist() == [[True, False, False]]
    assert mean_distance(PREDICTION, BANK, found).item() == pytest.approx(0.4, abs=1e-5)


def test_no_allowed_row_gives_zero() -> None:
    nothing = Neighbours(torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.bool))
    assert mean_distance(PREDICTION, BANK, nothing).item() == 0


def test_loss_equals_a_naive_loop() -> None:
    predictions, targets, bank = unit(4, seed=1), unit(4, seed=2), unit(20, seed=3)
    expected = 0.0
    for v, u in zip(predictions, targets, strict=True):
        nearest = sorted(range(20), key=lambda j: float((u - bank[j]).square().sum()))[:5]
        expected += sum(float((v - bank[j]).square().sum()) for j in nearest) / 5 / 4
    assert mean_shift_loss(predictions, targets, bank, neighbour_count=5).item() == pytest.approx(expected, abs=1e-5)


def test_one_neighbour_is_byol_without_symmetry() -> None:
    predictions, targets = unit(8, seed=1), unit(8, seed=2)
    bank = torch.cat([unit(30, seed=3), targets])
    byol = (2 - 2 * F.cosine_similarity(predictions, targets)).mean()
    torch.testing.assert_close(mean_shift_loss(predictions, targets, bank, neighbour_count=1), byol)


def test_order_of_the_bank_does_not_matter() -> None:
    predictions, targets, bank = unit(4, seed=1), unit(4, seed=2), unit(20, seed=3)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    loss = mean_shift_loss(predictions, targets, bank, neighbour_count=5)
    torch.testing.assert_close(mean_shift_loss(predictions, targets, bank[order], neighbour_count=5), loss)


def test_only_the_prediction_gets_a_gradient() -> None:
    predictions, targets, bank = (unit(4, seed=s).requires_grad_() for s in (1, 2, 3))
    torch.autograd.backward(mean_shift_loss(predictions, targets, bank, neighbour_count=2))
    assert predictions.grad is not None
    assert predictions.grad.abs().sum() > 0.1
    assert targets.grad is None
    assert bank.grad is None


def test_the_bank_may_be_written_before_backward() -> None:
    predictions, bank = unit(4, seed=1).requires_grad_(), unit(10, seed=3)
    loss = mean_shift_loss(predictions, unit(4, seed=2), bank, neighbour_count=2)
    expected = torch.autograd.grad(loss, predictions, retain_graph=True)[0]
    bank.zero_()
    torch.testing.assert_close(torch.autograd.grad(loss, predictions)[0], expected)


def test_range_is_from_zero_to_four() -> None:
    assert mean_shift_loss(-TARGET, TARGET, TARGET, neighbour_count=1).item() == pytest.approx(4)
    assert mean_shift_loss(TARGET, TARGET, TARGET, neighbour_count=1).item() == pytest.approx(0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_fp32_and_near(dtype: torch.dtype) -> None:
    predictions, targets, bank = unit(4, seed=1), unit(4, seed=2), unit(20, seed=3)
    expected = mean_shift_loss(predictions, targets, bank, neighbour_count=20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = mean_shift_loss(predictions.to(dtype), targets.to(dtype), bank, neighbour_count=20)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), abs=2e-2)


@pytest.mark.parametrize("neighbour_count", [0, 5])
def test_neighbour_count_outside_the_bank_is_refused(neighbour_count: int) -> None:
    with pytest.raises(ValueError, match=rf"neighbour count \({neighbour_count}\) must be in \[1, 4\]"):
        mean_shift_loss(PREDICTION, TARGET, BANK, neighbour_count=neighbour_count)

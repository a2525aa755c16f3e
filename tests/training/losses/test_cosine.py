from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from training.losses.cosine import negative_cosine_loss, normalised_distance_loss
from training.methods.image.mean_shift import mean_shift_loss

PREDICTION = torch.tensor([[3.0, 4.0]])
TARGET = torch.tensor([[4.0, 3.0]])
LOSSES = pytest.mark.parametrize("loss", [negative_cosine_loss, normalised_distance_loss])
Loss = Callable[[Tensor, Tensor], Tensor]


def random_rows(seed: int, count: int = 6) -> Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))


def test_losses_equal_the_worked_numbers() -> None:
    assert negative_cosine_loss(PREDICTION, TARGET).item() == pytest.approx(-0.96, abs=1e-5)
    one, other = normalised_distance_loss(PREDICTION, TARGET), normalised_distance_loss(TARGET, PREDICTION)
    assert one.item() == pytest.approx(0.08, abs=1e-5)
    assert (one + other).item() == pytest.approx(0.16, abs=1e-5)  # the paper's sum of both directions


def test_distance_equals_a_naive_loop() -> None:
    predictions, targets = random_rows(1), random_rows(2)
    total = 0.0
    for p, z in zip(predictions.tolist(), targets.tolist(), strict=True):
        lengths = math.hypot(*p), math.hypot(*z)
        total += sum((a / lengths[0] - b / lengths[1]) ** 2 for a, b in zip(p, z, strict=True))
    assert normalised_distance_loss(predictions, targets).item() == pytest.approx(total / 6, abs=1e-5)


@pytest.mark.parametrize(("second", "cosine"), [(PREDICTION, 1), (-PREDICTION, -1), (PREDICTION.flip(1) * 0, 0)])
def test_ranges(second: Tensor, cosine: int) -> None:
    assert negative_cosine_loss(PREDICTION, second).item() == pytest.approx(-cosine, abs=1e-6)
    assert normalised_distance_loss(PREDICTION, second).item() == pytest.approx(2 - 2 * cosine, abs=1e-6)


def test_a_collapsed_network_has_the_lowest_loss() -> None:
    same = torch.ones(4, 3)
    assert normalised_distance_loss(same, same).item() == pytest.approx(0, abs=1e-6)


def test_distance_is_mean_shift_with_one_neighbour() -> None:
    predictions, targets = random_rows(1), random_rows(2)
    u = F.normalize(targets, dim=1)
    bank = torch.cat([F.normalize(random_rows(3, count=30), dim=1), u])
    expected = mean_shift_loss(F.normalize(predictions, dim=1), u, bank, neighbour_count=1)
    torch.testing.assert_close(normalised_distance_loss(predictions, targets), expected)


@LOSSES
def test_length_does_not_matter(loss: Loss) -> None:
    predictions, targets = random_rows(1), random_rows(2)
    scale = torch.tensor([0.1, 1.0, 7.0, 2.0, 3.0, 0.5])[:, None]
    torch.testing.assert_close(loss(predictions * scale, targets / scale), loss(predictions, targets))


@LOSSES
def test_only_the_prediction_gets_a_gradient_at_a_right_angle_to_it(loss: Loss) -> None:
    predictions, targets = random_rows(1).requires_grad_(), random_rows(2).requires_grad_()
    torch.autograd.backward(loss(predictions, targets))
    assert targets.grad is None
    assert predictions.grad is not None
    assert predictions.grad.abs().max() > 1e-3
    torch.testing.assert_close((predictions.grad * predictions).sum(dim=1), torch.zeros(6), atol=1e-6, rtol=0)


@LOSSES
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_fp32_and_near(loss: Loss, dtype: torch.dtype) -> None:
    predictions, targets = random_rows(1), random_rows(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(predictions.to(dtype), targets.to(dtype))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(loss(predictions, targets).item(), abs=2e-2)


@LOSSES
@pytest.mark.parametrize(("first", "second"), [((4, 3), (4, 2)), ((4, 3), (1, 3)), ((0, 3), (0, 3)), ((3,), (3,))])
def test_bad_shapes_are_refused(loss: Loss, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be two equal"):
        loss(torch.ones(first), torch.ones(second))

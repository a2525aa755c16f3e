from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from training.methods.image.simclr import nt_xent_loss

AXES = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
TURNED = torch.tensor([[0.6, 0.8], [-0.8, 0.6]])


def naive_nt_xent(first: Tensor, second: Tensor, temperature: float) -> float:
    views = [row / row.norm() for row in torch.cat([first, second]).double()]
    count, total = len(first), 0.0
    for i, view in enumerate(views):
        exponentials = {k: math.exp(float(view @ other) / temperature) for k, other in enumerate(views) if k != i}
        total -= math.log(exponentials[(i + count) % (2 * count)] / sum(exponentials.values()))
    return total / (2 * count)


def random_views(count: int = 6, width: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, width, generator=generator), torch.randn(count, width, generator=generator)


@pytest.mark.parametrize(
    ("second", "temperature", "expected"),
    [(AXES, 0.5, 0.239545), (AXES, 1.0, 0.551445), (TURNED, 0.5, 0.668040)],
)
def test_loss_equals_the_worked_numbers(second: Tensor, temperature: float, expected: float) -> None:
    assert nt_xent_loss(AXES, second, temperature=temperature).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("count", [2, 4])
def test_collapsed_projections_give_the_log_of_the_other_views(count: int) -> None:
    same = torch.ones(count, 3)
    assert nt_xent_loss(same, same, temperature=0.5).item() == pytest.approx(math.log(2 * count - 1), abs=1e-5)


@pytest.mark.parametrize("temperature", [0.07, 0.5, 1.0])
@pytest.mark.parametrize("count", [1, 2, 6])
def test_loss_equals_a_naive_loop(count: int, temperature: float) -> None:
    first, second = random_views(count)
    expected = naive_nt_xent(first, second, temperature)
    assert nt_xent_loss(first, second, temperature=temperature).item() == pytest.approx(expected, abs=1e-5)


def test_loss_is_invariant_to_length_rotation_order_and_swap() -> None:
    first, second = random_views()
    loss = nt_xent_loss(first, second, temperature=0.2)
    order = torch.tensor([3, 1, 0, 5, 4, 2])
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1))).Q
    scale = torch.tensor([0.1, 1.0, 7.0, 2.0, 3.0, 0.5])[:, None]
    for changed in ((first * scale, second), (first @ rotation, second @ rotation), (first[order], second[order])):
        torch.testing.assert_close(nt_xent_loss(*changed, temperature=0.2), loss)
    torch.testing.assert_close(nt_xent_loss(second, first, temperature=0.2), loss)


def test_loss_counts_negatives_within_a_view() -> None:
    # Cross-entropy across the views alone would not see the difference.
    first = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    across = torch.nn.functional.cross_entropy(first @ AXES.T / 0.5, torch.arange(2))
    assert nt_xent_loss(first, AXES, temperature=0.5).item() > across.item() + 0.1


def test_gradient_is_at_a_right_angle_to_the_projection() -> None:
    first, second = random_views()
    first.requires_grad_()
    torch.autograd.backward(nt_xent_loss(first, second, temperature=0.2))
    assert first.grad is not None
    assert first.grad.abs().max() > 1e-3
    torch.testing.assert_close((first.grad * first).sum(dim=1), torch.zeros(6), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loss_of_half_precision_projections_is_fp32_and_near(dtype: torch.dtype) -> None:
    # At this temperature exp(s / T) overflows fp16.
    first, second = random_views()
    expected = nt_xent_loss(first, first + 0.1 * second, temperature=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nt_xent_loss(first.to(dtype), (first + 0.1 * second).to(dtype), temperature=0.05)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), abs=2e-2)


def test_autocast_leaves_the_products_in_full_precision() -> None:
    first, second = random_views()
    expected = nt_xent_loss(first, second, temperature=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(nt_xent_loss(first, second, temperature=0.05), expected, rtol=0, atol=0)


def test_bad_input_is_refused() -> None:
    first, second = random_views()
    with pytest.raises(ValueError, match=r"temperature \(0\)"):
        nt_xent_loss(first, second, temperature=0)
    with pytest.raises(ValueError, match=r"\[6, 5\] and \[4, 5\]"):
        nt_xent_loss(first, second[:4], temperature=1)

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from training.methods.image.swav import sinkhorn, swav_loss

SCORES = torch.tensor([[0.2, 0.1], [0.3, 0.1]])


def random_scores(*shape: int, seed: int = 3) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def random_codes(*shape: int) -> Tensor:
    return (3 * random_scores(*shape, seed=4)).softmax(dim=-1)


def naive_sinkhorn(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    count, prototypes = scores.shape
    codes = (scores.double() / epsilon).exp()
    codes /= codes.sum()
    for _ in range(iterations):
        codes = codes / codes.sum(dim=0) / prototypes
        codes = codes / codes.sum(dim=1, keepdim=True) / count
    return codes * count


def naive_loss(scores: Tensor, codes: Tensor, temperature: float) -> float:
    terms = []
    for assigned in range(len(codes)):
        for view in range(len(scores)):
            if view != assigned:
                for q, s in zip(codes[assigned].double(), scores[view].double(), strict=True):
                    logits = s / temperature
                    terms.append(-float((q * (logits - logits.exp().sum().log())).sum()))
    return sum(terms) / len(terms)


def test_codes_equal_the_worked_numbers() -> None:
    codes = sinkhorn(SCORES, epsilon=0.05, iterations=3)
    torch.testing.assert_close(codes, torch.tensor([[0.2651, 0.7349], [0.7272, 0.2728]]), atol=5e-5, rtol=0)


def test_equal_scores_share_every_prototype() -> None:
    codes = sinkhorn(torch.full((5, 4), 0.3), epsilon=0.05, iterations=3)
    torch.testing.assert_close(codes, torch.full((5, 4), 0.25))


def test_clear_scores_are_assigned_as_they_are() -> None:
    torch.testing.assert_close(sinkhorn(torch.eye(2), epsilon=0.05, iterations=3), torch.eye(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("iterations", [1, 3, 10])
@pytest.mark.parametrize("epsilon", [0.03, 0.05, 0.5])
def test_codes_equal_the_papers_normalisations(epsilon: float, iterations: int) -> None:
    scores = random_scores(9, 4)
    expected = naive_sinkhorn(scores, epsilon, iterations).float()
    torch.testing.assert_close(sinkhorn(scores, epsilon=epsilon, iterations=iterations), expected, atol=1e-5, rtol=1e-4)


def test_codes_balance_prototypes_that_all_images_prefer_unequally() -> None:
    scores = random_scores(40, 5) + torch.tensor([1.0, 0.0, 0.0, 0.0, -1.0])
    codes = sinkhorn(scores, epsilon=0.5, iterations=100)
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(40))
    torch.testing.assert_close(codes.sum(dim=0), torch.full((5,), 8.0), atol=1e-3, rtol=0)
    favoured = sinkhorn(random_scores(40, 5), epsilon=0.5, iterations=3)
    torch.testing.assert_close(sinkhorn(scores, epsilon=0.5, iterations=3), favoured)  # a column's offset is nothing


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_codes_of_extreme_scores_are_finite(dtype: torch.dtype) -> None:
    # exp(1 / 0.01) overflows fp32, exp(-1 / 0.005) is 0 in it: sums over either would be inf or 0 / 0.
    scores = torch.tensor([[1.0, 1.0, -1.0], [1.0, 0.99, -1.0], [-1.0, -1.0, -1.0]], dtype=dtype)
    for epsilon in (0.005, 0.01, 0.05):
        codes = sinkhorn(scores, epsilon=epsilon, iterations=3)
        assert codes.dtype == torch.float32
        torch.testing.assert_close(codes.sum(dim=1), torch.ones(3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_codes_and_loss_of_half_precision_scores_are_near(dtype: torch.dtype) -> None:
    worked = sinkhorn(SCORES.to(dtype), epsilon=0.05, iterations=3)
    torch.testing.assert_close(worked, sinkhorn(SCORES, epsilon=0.05, iterations=3), atol=2e-2, rtol=0)
    scores, codes = random_scores(3, 6, 4), random_codes(2, 6, 4)
    expected = swav_loss(scores, codes, temperature=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = swav_loss(scores.to(dtype), codes.to(dtype), temperature=0.5)
        torch.testing.assert_close(swav_loss(scores, codes, temperature=0.5), expected, rtol=0, atol=0)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), abs=2e-2)


def test_codes_carry_no_gradient() -> None:
    assert not sinkhorn(SCORES.clone().requires_grad_(), epsilon=0.05, iterations=3).requires_grad
    scores, codes = random_scores(2, 6, 4).requires_grad_(), random_codes(2, 6, 4).requires_grad_()
    torch.autograd.backward(swav_loss(scores, codes, temperature=0.1))
    assert codes.grad is None
    assert scores.grad is not None
    assert scores.grad.abs().max() > 1e-3


def test_equal_scores_cost_the_log_of_the_prototypes() -> None:
    same = torch.full((2, 5, 8), 0.3)
    codes = torch.stack([sinkhorn(view, epsilon=0.05, iterations=3) for view in same])
    assert swav_loss(same, codes, temperature=0.1).item() == pytest.approx(math.log(8), abs=1e-5)


@pytest.mark.parametrize("views", [2, 3, 5])
def test_loss_equals_a_naive_loop(views: int) -> None:
    scores, codes = random_scores(views, 6, 4), random_codes(2, 6, 4)
    expected = naive_loss(scores, codes, 0.1)
    assert swav_loss(scores, codes, temperature=0.1).item() == pytest.approx(expected, abs=1e-5)


def test_a_view_does_not_predict_its_own_code() -> None:
    codes = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    scores = 10 * codes  # each view knows its own code, and not the other's
    assert swav_loss(scores, codes, temperature=1).item() == pytest.approx(10, abs=1e-3)
    assert swav_loss(scores.flip(0), codes, temperature=1).item() == pytest.approx(0, abs=1e-3)


def test_loss_is_invariant_to_the_order_of_images_and_prototypes() -> None:
    scores, codes = random_scores(4, 6, 5), random_codes(2, 6, 5)
    loss = swav_loss(scores, codes, temperature=0.1)
    images, prototypes = torch.tensor([3, 1, 0, 5, 4, 2]), torch.tensor([2, 0, 1, 4, 3])
    torch.testing.assert_close(swav_loss(scores[:, images], codes[:, images], temperature=0.1), loss)
    torch.testing.assert_close(swav_loss(scores[..., prototypes], codes[..., prototypes], temperature=0.1), loss)


def test_bad_input_is_refused() -> None:
    scores, codes = random_scores(2, 6, 4), random_codes(2, 6, 4)
    with pytest.raises(ValueError, match=r"\[2, 6, 4\] and \[2, 5, 4\]"):
        swav_loss(scores, codes[:, :5], temperature=0.1)
    for views, assigned in ((1, 1), (1, 2), (2, 0)):
        with pytest.raises(ValueError, match="codes"):
            swav_loss(scores[:views], codes[:assigned], temperature=0.1)
    with pytest.raises(ValueError, match=r"temperature \(0\)"):
        swav_loss(scores, codes, temperature=0)
    with pytest.raises(ValueError, match=r"epsilon \(0\)"):
        sinkhorn(SCORES, epsilon=0, iterations=3)
    with pytest.raises(ValueError, match=r"iterations \(0\)"):
        sinkhorn(SCORES, epsilon=0.05, iterations=0)

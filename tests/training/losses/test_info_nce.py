from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from training.losses.info_nce import candidate_scores, info_nce_accuracy, info_nce_loss, queue_scores

QUERY = torch.tensor([[1.0, 0.0]])
KEY = torch.tensor([[0.6, 0.8]])
NEGATIVES = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])


def unit(count: int, *, seed: int) -> Tensor:
    return F.normalize(torch.randn(count, 5, generator=torch.Generator().manual_seed(seed)), dim=1)


def queue_loss(queries: Tensor, keys: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    scores = queue_scores(queries, keys, negatives, temperature=temperature)
    return info_nce_loss(scores, torch.zeros(len(scores), dtype=torch.int64))


def test_scores_and_loss_equal_the_worked_numbers() -> None:
    scores = queue_scores(QUERY, KEY, NEGATIVES, temperature=0.2)
    torch.testing.assert_close(scores, torch.tensor([[3.0, 0.0, -5.0]]))
    assert queue_loss(QUERY, KEY, NEGATIVES, 0.2).item() == pytest.approx(0.048907, abs=1e-5)


def test_the_same_candidates_give_the_worked_number_in_any_order() -> None:
    candidates = torch.cat([NEGATIVES, KEY])
    loss = info_nce_loss(candidate_scores(QUERY, candidates, temperature=0.2), torch.tensor([2]))
    assert loss.item() == pytest.approx(0.048907, abs=1e-5)


def test_loss_equals_a_naive_loop() -> None:
    queries, keys, negatives, total = unit(4, seed=1), unit(4, seed=2), unit(9, seed=3), 0.0
    for q, k in zip(queries, keys, strict=True):
        positive, *others = (math.exp(float(q @ each) / 0.3) for each in (k, *negatives))
        total -= math.log(positive / (positive + sum(others))) / 4
    assert queue_loss(queries, keys, negatives, 0.3).item() == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize("count", [1, 5, 4097])
def test_equal_scores_give_the_log_of_the_candidates(count: int) -> None:
    loss = info_nce_loss(torch.full((2, count), 0.7), torch.tensor([0, count - 1]))
    assert loss.item() == pytest.approx(math.log(count), abs=1e-5)


def test_loss_is_invariant_to_a_shift_of_the_scores_of_a_query() -> None:
    scores, positives = unit(6, seed=4), torch.tensor([0, 1, 2, 3, 4, 0])
    shifted = scores + torch.linspace(-50, 50, 6)[:, None]
    torch.testing.assert_close(info_nce_loss(shifted, positives), info_nce_loss(scores, positives))


def test_loss_falls_as_the_positive_rises_and_rises_with_each_negative() -> None:
    scores, positives = unit(6, seed=4).requires_grad_(), torch.tensor([0, 1, 2, 3, 4, 0])
    torch.autograd.backward(info_nce_loss(scores, positives))
    assert scores.grad is not None
    signs = scores.grad.sign()
    assert (signs.gather(1, positives[:, None]) == -1).all()
    assert signs.sum().item() == 6 * 5 - 2 * 6
    torch.testing.assert_close(scores.grad.sum(dim=1), torch.zeros(6), atol=1e-6, rtol=0)


def test_scores_are_neither_normalised_nor_divided_where_no_temperature_is_given() -> None:
    queries, candidates = torch.tensor([[2.0, 1.0]]), torch.tensor([[3.0, -1.0], [10.0, 0.5]])
    torch.testing.assert_close(candidate_scores(queries, candidates), torch.tensor([[5.0, 20.5]]))


def test_without_negatives_there_is_nothing_to_learn() -> None:
    queries = unit(3, seed=1).requires_grad_()
    loss = queue_loss(queries, unit(3, seed=2), torch.zeros(0, 5), 0.1)
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert queries.grad is not None
    assert not queries.grad.any()


def test_a_tie_is_no_hit() -> None:
    scores = torch.tensor([[1.0, 1.0, 0.0], [2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    assert info_nce_accuracy(scores, torch.zeros(3, dtype=torch.int64)).item() == pytest.approx(1 / 3)
    assert info_nce_accuracy(torch.zeros(4, 4), torch.arange(4)).item() == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_nearly_the_same_in_fp32(dtype: torch.dtype) -> None:
    # At this temperature exp(s / T) overflows fp16.
    queries, keys, negatives = unit(8, seed=1), unit(8, seed=2), unit(30, seed=3)
    expected = queue_loss(queries, keys, negatives, 0.07)
    with torch.autocast("cpu", dtype=dtype):
        loss = queue_loss(queries.to(dtype), keys.to(dtype), negatives.to(dtype), 0.07)
        scores = candidate_scores(queries, negatives)
    torch.testing.assert_close(scores, queries @ negatives.T, atol=1e-6, rtol=0)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, atol=2e-2, rtol=0)
    products = candidate_scores(torch.full((1, 4), 200.0, dtype=dtype), torch.full((1, 4), 200.0, dtype=dtype))
    assert products.item() == pytest.approx(160_000, rel=1e-2)


@pytest.mark.parametrize("temperature", [0.0, -0.1])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match=r"temperature \("):
        candidate_scores(QUERY, KEY, temperature=temperature)
    with pytest.raises(ValueError, match=r"temperature \("):
        queue_scores(QUERY, KEY, NEGATIVES, temperature=temperature)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[1, 2\] and \[1, 3\]"):
        candidate_scores(QUERY, torch.ones(1, 3))
    with pytest.raises(ValueError, match="m >= 1"):
        candidate_scores(QUERY, torch.ones(0, 2))
    with pytest.raises(ValueError, match=r"\[1, 2\], \[2, 2\] and \[2, 2\]"):
        queue_scores(QUERY, NEGATIVES, NEGATIVES, temperature=0.2)
    with pytest.raises(ValueError, match=r"\[1, 2\], \[1, 2\] and \[2, 3\]"):
        queue_scores(QUERY, KEY, torch.ones(2, 3), temperature=0.2)
    with pytest.raises(ValueError, match=r"\[2, 3\] and \[3\]"):
        info_nce_loss(torch.ones(2, 3), torch.zeros(3, dtype=torch.int64))

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from training.losses.adjacency import Adjacency, adjacency_of
from training.losses.quick_thoughts import adjacency_scores, pairwise_logistic_loss, quick_thoughts_loss


def contiguous(count: int, *, context_size: int = 1) -> Adjacency:
    places = torch.arange(count)
    return adjacency_of(torch.zeros(count, dtype=torch.int64), places, places, context_size=context_size)


def random_towers(count: int = 7, width: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(count, width, generator=generator), torch.randn(count, width, generator=generator)


def naive_quick_thoughts(scores: Tensor, adjacency: Adjacency) -> float:
    losses: list[float] = []
    for row, positives, negatives in zip(
        scores.tolist(), adjacency.positives.tolist(), adjacency.negatives.tolist(), strict=True
    ):
        wanted = [s for s, p in zip(row, positives, strict=True) if p]
        if not wanted:
            continue
        total = sum(math.exp(s) for s, p, n in zip(row, positives, negatives, strict=True) if p or n)
        losses.append(-sum(s - math.log(total) for s in wanted) / len(wanted))
    return sum(losses) / len(losses)


def naive_logistic(scores: Tensor, adjacency: Adjacency) -> float:
    rows = []
    for i in range(len(scores)):
        positives = adjacency.positives[i].nonzero().flatten().tolist()
        negatives = adjacency.negatives[i].nonzero().flatten().tolist()
        if positives and negatives:
            pairs = [math.log1p(math.exp(float(scores[i, j] - scores[i, p]))) for p in positives for j in negatives]
            rows.append(sum(pairs) / len(pairs))
    return sum(rows) / len(rows)


def test_loss_equals_the_worked_number() -> None:
    scores = adjacency_scores(torch.tensor([[1.0], [2.0], [0.0]]), torch.tensor([[1.0], [0.0], [1.0]]))
    assert quick_thoughts_loss(scores, contiguous(3)).item() == pytest.approx(0.899852, abs=1e-5)


def test_pair_form_equals_the_worked_number_and_gradient() -> None:
    f = torch.tensor([[1.0, 2.0]], requires_grad=True)
    others = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    # One row: itself, the positive, the negative.
    scores = F.pad(f @ others.T, (1, 0, 0, 2))
    only_first = Adjacency(
        torch.tensor([[False, True, False], [False] * 3, [False] * 3]),
        torch.tensor([[False, False, True], [False] * 3, [False] * 3]),
    )
    loss = pairwise_logistic_loss(scores, only_first)
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(0.313262, abs=1e-5)
    assert f.grad is not None
    torch.testing.assert_close(f.grad, torch.tensor([[-0.268941, 0.0]]), atol=1e-5, rtol=0)


def test_one_candidate_negative_makes_the_two_forms_equal() -> None:
    # Two pairs would share candidates; so: three sentences, the middle one's row left out.
    f, g = random_towers(3)
    adjacency = contiguous(3)
    adjacency.positives[1] = False
    scores = adjacency_scores(f, g)
    torch.testing.assert_close(pairwise_logistic_loss(scores, adjacency), quick_thoughts_loss(scores, adjacency))


@pytest.mark.parametrize("count", [3, 5, 400])
def test_equal_scores_give_chance(count: int) -> None:
    zeros = torch.zeros(count, count)
    assert quick_thoughts_loss(zeros, contiguous(count)).item() == pytest.approx(math.log(count - 1), abs=1e-5)
    assert pairwise_logistic_loss(zeros, contiguous(count)).item() == pytest.approx(math.log(2), abs=1e-5)


def test_block_of_four_hundred_has_the_masked_chance_not_the_reference_one() -> None:
    loss = quick_thoughts_loss(torch.zeros(400, 400), contiguous(400)).item()
    assert loss == pytest.approx(5.9890, abs=1e-4)


@pytest.mark.parametrize("context_size", [1, 2])
def test_losses_equal_naive_loops(context_size: int) -> None:
    f, g = random_towers()
    document = torch.tensor([0, 0, 0, 1, 2, 2, 2])  # sentence 3 is alone in its document
    sentence = torch.tensor([0, 1, 2, 3, 4, 1, 6])  # and sentence 5 has the text of sentence 1
    adjacency = adjacency_of(document, torch.arange(7), sentence, context_size=context_size)
    scores = adjacency_scores(f, g)
    expected = naive_quick_thoughts(scores, adjacency)
    assert quick_thoughts_loss(scores, adjacency).item() == pytest.approx(expected, abs=1e-5)
    assert pairwise_logistic_loss(scores, adjacency).item() == pytest.approx(
        naive_logistic(scores, adjacency), abs=1e-5
    )


@pytest.mark.parametrize("form", [quick_thoughts_loss, pairwise_logistic_loss])
def test_reversing_the_block_changes_nothing(form: type) -> None:
    f, g = random_towers()
    forward = form(adjacency_scores(f, g), contiguous(7))
    torch.testing.assert_close(form(adjacency_scores(f.flip(0), g.flip(0)), contiguous(7)), forward)


@pytest.mark.parametrize("form", [quick_thoughts_loss, pairwise_logistic_loss])
def test_both_towers_learn_and_no_row_meets_itself(form: type) -> None:
    f, g = (rows.requires_grad_() for rows in random_towers())
    scores = adjacency_scores(f, g)
    scores.retain_grad()
    torch.autograd.backward(form(scores, contiguous(7)))
    assert f.grad is not None
    assert g.grad is not None
    assert scores.grad is not None
    assert f.grad.abs().sum() > 0.1
    assert g.grad.abs().sum() > 0.1
    assert scores.grad.diagonal().tolist() == [0.0] * 7


def test_only_rows_with_a_positive_count() -> None:
    f, g = random_towers(3)
    adjacency = adjacency_of(torch.tensor([0, 0, 1]), torch.arange(3), torch.arange(3))
    scores = adjacency_scores(f, g)
    rows = [F.cross_entropy(scores[i, [j, 2]][None], torch.tensor([0])) for i, j in ((0, 1), (1, 0))]
    torch.testing.assert_close(quick_thoughts_loss(scores, adjacency), sum(rows) / 2)


@pytest.mark.parametrize("form", [quick_thoughts_loss, pairwise_logistic_loss])
def test_block_without_any_neighbours_gives_zero_and_no_nan(form: type) -> None:
    f, g = (rows.requires_grad_() for rows in random_towers(4))
    loss = form(adjacency_scores(f, g), adjacency_of(torch.arange(4), torch.arange(4), torch.arange(4)))
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert f.grad is not None
    assert f.grad.abs().max() == 0


@pytest.mark.parametrize("form", [quick_thoughts_loss, pairwise_logistic_loss])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_wide_half_precision_states_do_not_overflow(form: type, dtype: torch.dtype) -> None:
    f, g = (8 * torch.ones(5, 2400, dtype=dtype) for _ in range(2))  # products of 153,600 overflow fp16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = form(adjacency_scores(f, g), contiguous(5))
    assert loss.dtype == torch.float32
    expected = math.log(4) if form is quick_thoughts_loss else math.log(2)
    assert loss.item() == pytest.approx(expected, abs=2e-2)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[3, 3\] and adjacency \[4, 4\]"):
        quick_thoughts_loss(torch.zeros(3, 3), contiguous(4))
    with pytest.raises(ValueError, match=r"\[2, 3\] and \[2, 4\]"):
        adjacency_scores(torch.zeros(2, 3), torch.zeros(2, 4))

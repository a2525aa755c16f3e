from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.methods.image.dino import dino_loss, dino_targets


def random_logits(views: int, seed: int = 3) -> Tensor:
    return torch.randn(views, 5, 7, generator=torch.Generator().manual_seed(seed))


def random_case() -> tuple[Tensor, Tensor]:
    return random_logits(4), random_logits(2, seed=4).softmax(dim=-1)


def naive(logits: Tensor, targets: Tensor, temperature: float) -> float:
    logits, targets, terms = logits.detach(), targets.detach(), []
    for g in range(len(targets)):
        for v in range(len(logits)):
            for n in range(logits.shape[1]):
                if v != g:
                    log_s = torch.log_softmax(logits[v, n].double() / temperature, dim=0)
                    terms.append(-float((targets[g, n].double() * log_s).sum()))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_loss_equals_a_naive_loop_over_pairs_of_different_views(temperature: float) -> None:
    logits, targets = random_case()
    expected = naive(logits, targets, temperature)
    assert dino_loss(logits, targets, temperature=temperature).item() == pytest.approx(expected, abs=1e-5)


def test_a_uniform_student_gives_the_log_of_the_prototypes() -> None:
    _, targets = random_case()
    loss = dino_loss(torch.full((4, 5, 7), 0.3), targets, temperature=0.1)
    assert loss.item() == pytest.approx(torch.tensor(7.0).log().item(), abs=1e-5)


def test_a_student_that_agrees_has_the_teachers_entropy() -> None:
    targets = random_logits(1).softmax(dim=-1).expand(2, -1, -1)
    logits = 0.1 * targets.log()
    entropy = torch.special.entr(targets).sum(dim=-1).mean()
    torch.testing.assert_close(dino_loss(logits, targets, temperature=0.1), entropy)


def test_loss_does_not_see_shifts_nor_orders() -> None:
    logits, targets = random_case()
    loss = dino_loss(logits, targets, temperature=0.1)
    images, prototypes = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([6, 2, 0, 1, 5, 3, 4])
    shifts = torch.arange(20.0).view(4, 5, 1)
    for changed in (
        (logits + shifts, targets),
        (logits[:, images], targets[:, images]),
        (logits[..., prototypes], targets[..., prototypes]),
        (logits[[0, 1, 3, 2]], targets),
    ):
        torch.testing.assert_close(dino_loss(*changed, temperature=0.1), loss)


def test_only_the_student_gets_a_gradient() -> None:
    logits, teacher = random_logits(4).requires_grad_(), random_logits(2, seed=4).requires_grad_()
    targets = dino_targets(teacher, torch.zeros(7), temperature=0.04)
    assert not targets.requires_grad
    torch.autograd.backward(dino_loss(logits, targets, temperature=0.1))
    assert teacher.grad is None
    assert logits.grad is not None
    assert logits.grad.abs().max() > 1e-3
    constant = random_case()[1].requires_grad_()
    torch.autograd.backward(dino_loss(logits, constant, temperature=0.1))
    assert constant.grad is None


def test_targets_are_centred_then_sharpened() -> None:
    centre = torch.tensor([0.5, -0.25, 0.0])
    logits = centre + 0.04 * torch.tensor([1.0, 2.0, 5.0]).log()
    targets = dino_targets(logits[None, None], centre, temperature=0.04)
    torch.testing.assert_close(targets, torch.tensor([[[1.0, 2.0, 5.0]]]) / 8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_fp32_and_near(dtype: torch.dtype) -> None:
    student, teacher = (random_logits(views, seed=views).clamp(-1, 1) for views in (4, 2))
    # The oracle gets rounded scores too: over a temperature of 0.04 the inputs' rounding alone is a tenth.
    student, teacher = student.to(dtype).float(), teacher.to(dtype).float()
    expected = dino_loss(student, dino_targets(teacher, torch.zeros(7), temperature=0.04), temperature=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        targets = dino_targets(teacher.to(dtype), torch.zeros(7), temperature=0.04)
        loss = dino_loss(student.to(dtype), targets, temperature=0.1)
    assert targets.dtype == loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), abs=2e-2)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((4, 5, 7), (2, 5, 6)), ((4, 5, 7), (5, 5, 7)), ((1, 5, 7), (1, 5, 7)), ((4, 0, 7), (2, 0, 7)), ((5, 7), (5, 7))],
)
def test_bad_shapes_are_refused(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected logits"):
        dino_loss(torch.ones(student), torch.ones(teacher), temperature=0.1)


def test_bad_temperatures_are_refused() -> None:
    logits, targets = random_case()
    with pytest.raises(ValueError, match=r"temperature \(0.0\)"):
        dino_loss(logits, targets, temperature=0.0)
    with pytest.raises(ValueError, match=r"temperature \(-1.0\)"):
        dino_targets(logits, torch.zeros(7), temperature=-1.0)

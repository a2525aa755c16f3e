from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.training.methods.pictures import SIZE_PX, small_encoder
from training.methods.base import ImageBatch, MethodContext, Needs, Progress
from training.methods.image.cmsf_sup import CMSFSup, CMSFSupConfig, constrained_mean_shift_loss, same_class
from training.methods.image.mean_shift import mean_shift_loss

TARGET = torch.tensor([[1.0, 0.0]])
BANK = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]])
PREDICTION = torch.tensor([[0.6, 0.8]])

CONTEXT = MethodContext(dataset_size=40, batch_size=8, image_size_px=SIZE_PX, class_count=3)
CONFIG = CMSFSupConfig(bank_size=20, neighbour_count=4)
START = Progress(step=0, max_steps=100, epoch=0)


def unit(count: int, *, seed: int) -> Tensor:
    return F.normalize(torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)), dim=1)


def integers(*values: int) -> Tensor:
    return torch.tensor(values)


def loss_of(label: int, bank_labels: Tensor, neighbour_count: int = 2) -> float:
    return constrained_mean_shift_loss(
        PREDICTION,
        TARGET,
        BANK,
        labels=integers(label),
        bank_labels=bank_labels,
        neighbour_count=neighbour_count,
    ).item()


def naive_loss(v: Tensor, u: Tensor, bank: Tensor, labels: list[int], bank_labels: list[int], k: int) -> float:
    total = 0.0
    for i, label in enumerate(labels):
        among = [j for j in range(len(bank)) if label < 0 or bank_labels[j] == label]
        near = sorted(among, key=lambda j: float((u[i] - bank[j]).square().sum()))[:k]
        if near:
            total += sum(float((v[i] - bank[j]).square().sum()) for j in near) / len(near)
    return total / len(v)


def method(config: CMSFSupConfig = CONFIG) -> CMSFSup:
    return CMSFSup(small_encoder(seed=0), config, context=CONTEXT)


def batch(step: int, label: Tensor | None) -> ImageBatch:
    drawn = torch.randn(2, 8, 3, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(step))
    return ImageBatch((drawn[0], drawn[1]), (torch.arange(8) + 8 * step) % 40, label)


def test_loss_equals_the_worked_numbers() -> None:
    assert loss_of(0, integers(0, 1, 0, 1)) == pytest.approx(0.6, abs=1e-5)
    assert loss_of(-1, integers(0, 1, 0, 1)) == pytest.approx(0.44, abs=1e-5)


def test_fewer_rows_of_the_class_than_neighbours_average_over_those() -> None:
    # Filled up with other classes, as in the authors' code, the mean of three would be 0.426667 or more.
    assert loss_of(0, integers(0, 1, 0, 1), neighbour_count=3) == pytest.approx(0.6, abs=1e-5)
    assert loss_of(0, integers(1, 1, 0, 1), neighbour_count=3) == pytest.approx(0.4, abs=1e-5)


def test_an_image_without_a_label_may_have_every_neighbour_and_be_none_of_a_labelled_ones() -> None:
    # Matched by its -1 it would find only others without a label.
    assert same_class(integers(-1, 0, 1), integers(-1, 0, 1, -1)).tolist() == [
        [True, True, True, True],
        [False, True, False, False],
        [False, False, True, False],
    ]
    assert loss_of(-1, integers(0, 0, -1, -1)) == pytest.approx(0.44, abs=1e-5)


@pytest.mark.parametrize("k", [1, 3, 20])
def test_loss_equals_a_naive_loop(k: int) -> None:
    v, u, bank = unit(6, seed=1), unit(6, seed=2), unit(20, seed=3)
    labels, bank_labels = [0, 1, -1, 2, 0, 7], [0, 1, 2, -1, 0] * 4
    found = constrained_mean_shift_loss(
        v, u, bank, labels=integers(*labels), bank_labels=integers(*bank_labels), neighbour_count=k
    )
    assert found.item() == pytest.approx(naive_loss(v, u, bank, labels, bank_labels, k), abs=1e-5)


def test_one_class_is_mean_shift_and_its_name_does_not_matter() -> None:
    v, u, bank = unit(6, seed=1), unit(6, seed=2), unit(20, seed=3)
    expected = mean_shift_loss(v, u, bank, neighbour_count=5)
    for label in (-1, 0, 8):
        found = constrained_mean_shift_loss(
            v,
            u,
            bank,
            labels=torch.full((6,), label),
            bank_labels=torch.full((20,), label),
            neighbour_count=5,
        )
        assert torch.equal(found, expected)


def test_order_of_the_bank_does_not_matter_nor_do_the_names_of_classes() -> None:
    v, u, bank = unit(6, seed=1), unit(6, seed=2), unit(20, seed=3)
    labels, bank_labels = integers(0, 1, 2, 0, 1, 2), torch.arange(20) % 3
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    names = integers(5, 0, 9)
    found = [
        constrained_mean_shift_loss(v, u, rows, labels=own, bank_labels=theirs, neighbour_count=4)
        for rows, own, theirs in [
            (bank, labels, bank_labels),
            (bank[order], labels, bank_labels[order]),
            (bank, names[labels], names[bank_labels]),
        ]
    ]
    assert found[1].item() == pytest.approx(found[0].item(), abs=1e-6)
    assert torch.equal(found[2], found[0])


def test_only_the_prediction_gets_a_gradient() -> None:
    v, u, bank = (unit(4, seed=seed).requires_grad_() for seed in (1, 2, 3))
    labels = integers(0, 1, 0, 1)
    torch.autograd.backward(
        constrained_mean_shift_loss(v, u, bank, labels=labels, bank_labels=labels, neighbour_count=2)
    )
    assert v.grad is not None
    assert v.grad.abs().sum() > 0.1
    assert u.grad is None
    assert bank.grad is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_fp32_and_near(dtype: torch.dtype) -> None:
    v, u, bank = unit(4, seed=1), unit(4, seed=2), unit(20, seed=3)

    def loss(kind: torch.dtype) -> Tensor:
        return constrained_mean_shift_loss(
            v.to(kind),
            u.to(kind),
            bank.to(kind),
            labels=integers(0, 1, 0, 1),
            bank_labels=torch.arange(20) % 2,
            neighbour_count=20,
        )

    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = loss(dtype)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(loss(torch.float32).item(), abs=2e-2)


def test_every_step_equals_a_naive_loop_over_the_bank() -> None:
    sup = method()
    ring: list[tuple[int, Tensor]] = []
    for step in range(4):  # the bank of 20 is full in the third, and its labels wrap with it
        labels = torch.randint(-1, 3, (8,), generator=torch.Generator().manual_seed(step)).tolist()
        images = batch(step, torch.tensor(labels))
        v = F.normalize(sup.predictor(sup.projector(sup.encoder(images.views[0]))).detach(), dim=1)
        u = F.normalize(sup.target(images.views[1]), dim=1)
        ring = [*ring, *zip(labels, u, strict=True)][-20:]
        expected = naive_loss(v, u, torch.stack([row for _, row in ring]), labels, [each for each, _ in ring], 4)
        output = sup.loss(images, START)
        assert output.loss.item() == pytest.approx(expected, abs=1e-5), step
        labelled = sum(label >= 0 for label in labels) / 8
        assert float(output.metrics["constrained"]) == pytest.approx(labelled)


def test_all_ranks_labels_stand_beside_their_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = unit(8, seed=5).repeat(1, 2)[:, :8]

    def gathered(rows: Tensor) -> Tensor:
        return torch.cat([rows.detach() + 100 if rows.dtype == torch.int64 else theirs, rows.detach()])

    monkeypatch.setattr("training.methods.image.mean_shift.gather", gathered)
    monkeypatch.setattr("training.methods.image.cmsf_sup.gather", gathered)
    monkeypatch.setattr("training.methods.image.mean_shift.rank", lambda: 1)
    sup = method()
    own = integers(0, 1, 2, 0, 1, 2, 0, 1)
    sup.loss(batch(0, own), START)
    assert sup.bank_label[:16].tolist() == [*(own + 100).tolist(), *own.tolist()]
    assert sup.bank_label[16:].tolist() == [-1] * 4
    torch.testing.assert_close(sup.bank.vectors[:8], theirs)


def test_neighbours_grow_over_the_warm_up() -> None:
    assert method(replace(CONFIG, neighbour_warmup=0.5)).loss(batch(0, torch.zeros(8).long()), START).metrics[
        "neighbours"
    ] == pytest.approx(1)


def test_it_is_shown_labelled_images_alone_and_wants_their_labels() -> None:
    assert CMSFSup.needs == Needs(index=True, dataset_size=True, labels=True, every_label=True)
    with pytest.raises(ValueError, match="the batch has no labels"):
        method().loss(batch(0, None), START)


def test_the_settings_are_the_papers() -> None:
    paper = CMSFSupConfig()
    assert (paper.bank_size, paper.neighbour_count, paper.ema_decay, paper.weak_target) == (128_000, 10, 0.99, True)


def test_a_bank_in_which_images_meet_themselves_is_refused() -> None:
    with pytest.raises(ValueError, match=r"bank_size \(128000\) must be in \[8, 31\]"):
        method(CMSFSupConfig())
    assert method(CMSFSupConfig(bank_size=None)).bank.size == 20


@pytest.mark.parametrize(("name", "value"), [("neighbour_count", 0), ("bank_size", 9), ("neighbour_warmup", -0.1)])
def test_bad_settings_are_refused(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"{name} \({value}\)"):
        CMSFSupConfig(**settings)

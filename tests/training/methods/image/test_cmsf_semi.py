from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.heads import mlp
from tests.training.methods.pictures import SIZE_PX, small_encoder
from training.methods.base import ImageBatch, MethodContext, Needs, Progress
from training.methods.image import cmsf_semi
from training.methods.image.cmsf_semi import CMSFSemi, CMSFSemiConfig, pseudo_labels, train_pseudo_label_head
from training.methods.image.mean_shift import MeanShift, MeanShiftConfig

CLASSES = 3
CONTEXT = MethodContext(dataset_size=40, batch_size=8, image_size_px=SIZE_PX, class_count=CLASSES)
CONFIG = CMSFSemiConfig(bank_size=20, neighbour_count=4, labelled_bank_size=16, head_batch_size=8)
START = Progress(step=0, max_steps=100, epoch=0)
GIVEN = torch.tensor([0, -1, 2, -1, 1, -1, -1, 0])
SCORES = torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0]])  # 0.909, 0.576, 0.909


def method(config: CMSFSemiConfig = CONFIG, context: MethodContext = CONTEXT) -> CMSFSemi:
    semi = CMSFSemi(small_encoder(seed=0), config, context=context)
    semi.train()
    return semi


def batch(step: int, label: Tensor | None = GIVEN) -> ImageBatch:
    drawn = torch.randn(2, 8, 3, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(step))
    return ImageBatch((drawn[0], drawn[1]), (torch.arange(8) + 8 * step) % 40, label)


def at(step: int, *, steps_per_epoch: int) -> Progress:
    epoch, inside = divmod(step, steps_per_epoch)
    return Progress(step=step, max_steps=100, epoch=epoch, step_in_epoch=inside, steps_per_epoch=steps_per_epoch)


def separable(count: int, *, seed: int, width: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    rows = torch.eye(width)[labels] + 0.2 * torch.randn(count, width, generator=generator)
    return F.normalize(rows, dim=1), labels


def values(module: nn.Module) -> list[Tensor]:
    return [value.clone() for value in module.state_dict().values()]


def test_a_label_that_is_given_is_never_overwritten() -> None:
    for threshold in (0, 0.85, 1.01):
        assert pseudo_labels(SCORES, torch.tensor([2, 0, 1]), threshold=threshold).tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [(0.0, [0, 1, 2]), (0.5, [0, 1, 2]), (0.85, [0, -1, 2]), (0.95, [-1, -1, -1]), (1.01, [-1, -1, -1])],
)
def test_a_guess_counts_where_it_is_sure(threshold: float, expected: list[int]) -> None:
    missing = torch.full((3,), -1)
    assert pseudo_labels(SCORES, missing, threshold=threshold).tolist() == expected
    assert pseudo_labels(SCORES.half(), missing, threshold=threshold).tolist() == expected


def test_without_labels_and_guesses_it_is_mean_shift() -> None:
    semi = method(replace(CONFIG, confidence_threshold=1.01))
    msf = MeanShift(small_encoder(seed=1), MeanShiftConfig(bank_size=20, neighbour_count=4), context=CONTEXT)
    msf.load_state_dict(semi.state_dict(), strict=False)
    for step in range(5):
        outputs = [each.loss(batch(step, torch.full((8,), -1)), START) for each in (semi, msf)]
        assert torch.equal(outputs[0].loss, outputs[1].loss)
        assert outputs[0].metrics["constrained"] == 0
        before = values(semi.head)
        semi.at_epoch_end(START)  # nothing labelled was seen, so nothing is trained
        assert all(torch.equal(*pair) for pair in zip(before, values(semi.head), strict=True))
        for each, output in zip((semi, msf), outputs, strict=True):
            each.zero_grad()
            torch.autograd.backward(output.loss)
            with torch.no_grad():
                for parameter in each.parameters():
                    if parameter.grad is not None:
                        parameter.sub_(0.05 * parameter.grad)


def test_a_threshold_of_zero_constrains_every_image() -> None:
    semi = method(replace(CONFIG, confidence_threshold=0))
    assert semi.loss(batch(0), START).metrics["constrained"] == 1
    labels = semi.bank_label[:8]
    assert torch.equal(labels[GIVEN >= 0], GIVEN[GIVEN >= 0])
    with torch.no_grad():
        assert torch.equal(labels[GIVEN < 0], semi.head(semi.bank.vectors[:8]).argmax(dim=1)[GIVEN < 0])


def test_an_image_that_is_not_sure_is_stored_without_a_label_and_is_not_constrained() -> None:
    semi = method(replace(CONFIG, confidence_threshold=1.01, neighbour_count=1))
    output = semi.loss(batch(0), START)
    assert semi.bank_label[:8].tolist() == GIVEN.tolist()
    assert float(output.metrics["constrained"]) == pytest.approx(4 / 8)


def test_only_what_is_labelled_teaches_the_head() -> None:
    semi = method(replace(CONFIG, confidence_threshold=0))
    semi.loss(batch(0), START)
    semi.loss(batch(1), START)
    images = [0, 2, 4, 7, 8, 10, 12, 15]
    assert semi.labelled.valid_index.tolist() == images
    assert torch.equal(semi.labelled.valid, semi.bank.vectors[images])
    assert semi.labelled_label.tolist() == [0, 2, 1, 0] * 2 + [-1] * 8
    for step in (2, 3, 4):
        semi.loss(batch(step), START)
    assert semi.labelled_label.tolist() == [0, 2, 1, 0] * 4
    assert semi.labelled.index.tolist()[:4] == [32, 34, 36, 39]  # the ring has wrapped


def test_the_head_is_no_part_of_the_training() -> None:
    semi = method()
    assert not any(parameter.requires_grad for parameter in semi.head.parameters())
    assert not {id(p) for p in semi.head.parameters()} & {id(p) for g in semi.param_groups() for p in g["params"]}
    before = values(semi.head)
    optimiser = torch.optim.SGD(semi.parameters(), lr=0.5, weight_decay=0.1)
    for step in range(3):
        output = semi.loss(batch(step), START)
        optimiser.zero_grad(set_to_none=False)
        torch.autograd.backward(output.loss)
        optimiser.step()
    # Neither weight decay nor BatchNorm's running statistics have moved.
    assert all(torch.equal(old, new) for old, new in zip(before, values(semi.head), strict=True))

    semi.at_epoch_end(START)
    assert not all(torch.equal(old, new) for old, new in zip(before, values(semi.head), strict=True))
    assert all(not p.requires_grad and p.grad is None for p in semi.head.parameters())
    assert not semi.head.training


def test_training_the_head_leaves_everything_else() -> None:
    semi = method()
    semi.loss(batch(0), START)
    before = {key: value for key, value in semi.state_dict().items() if not key.startswith("head.")}
    before = {key: torch.as_tensor(value).clone() for key, value in before.items()}
    with torch.no_grad():
        semi.at_epoch_end(START)  # as in a fit, without gradients outside
    assert all(torch.equal(value, torch.as_tensor(semi.state_dict()[key])) for key, value in before.items())
    assert all(parameter.grad is None for parameter in semi.parameters())


def rounds(semi: CMSFSemi, monkeypatch: pytest.MonkeyPatch, *, steps_per_epoch: int) -> list[int]:
    """Returns after which of two epochs' steps the head was trained, from 1."""
    done: list[int] = []
    position = 0
    monkeypatch.setattr(cmsf_semi, "train_pseudo_label_head", lambda *_, **__: done.append(position))
    for step in range(2 * steps_per_epoch):
        position = step + 1
        semi.after_step(at(step, steps_per_epoch=steps_per_epoch))
        if position % steps_per_epoch == 0:
            semi.at_epoch_end(at(step, steps_per_epoch=steps_per_epoch))
    return done


@pytest.mark.parametrize(
    ("steps_per_epoch", "expected"), [(1, [1, 2]), (2, [1, 2, 3, 4]), (3, [1, 3, 4, 6]), (10, [5, 10, 15, 20])]
)
def test_the_head_is_trained_in_the_middle_and_at_the_end_of_each_epoch(
    monkeypatch: pytest.MonkeyPatch, steps_per_epoch: int, expected: list[int]
) -> None:
    assert rounds(method(), monkeypatch, steps_per_epoch=steps_per_epoch) == expected


@pytest.mark.parametrize(("batch_size", "expected"), [(1023, [5, 10, 15, 20]), (1024, [10, 20])])
def test_with_large_batches_it_is_trained_at_the_end_alone(
    monkeypatch: pytest.MonkeyPatch, batch_size: int, expected: list[int]
) -> None:
    context = replace(CONTEXT, dataset_size=4000, batch_size=batch_size)
    semi = method(replace(CONFIG, bank_size=None, labelled_bank_size=None), context)
    assert rounds(semi, monkeypatch, steps_per_epoch=10) == expected


def test_a_round_is_ten_epochs_of_a_fresh_optimiser() -> None:
    rows, labels = separable(24, seed=0)
    torch.manual_seed(0)
    head = mlp(8, 16, CLASSES).eval().requires_grad_(False)
    expected = mlp(8, 16, CLASSES).train()
    expected.load_state_dict(head.state_dict())

    for number in (1, 2):
        config = CMSFSemiConfig(head_batch_size=10)
        train_pseudo_label_head(head, rows, labels, config=config, generator=torch.Generator().manual_seed(number))
        generator = torch.Generator().manual_seed(number)
        parameters = list(expected.parameters())
        velocity = [torch.zeros_like(parameter) for parameter in parameters]
        for _ in range(10):
            order = torch.randperm(24, generator=generator)
            for start in (0, 10, 20):
                chosen = order[start : start + 10]
                scores = expected(rows[chosen])
                loss = torch.logsumexp(scores, dim=1) - scores[torch.arange(len(chosen)), labels[chosen]]
                gradients = torch.autograd.grad(loss.mean(), parameters)
                with torch.no_grad():
                    for parameter, speed, gradient in zip(parameters, velocity, gradients, strict=True):
                        speed.mul_(0.9).add_(gradient + 1e-4 * parameter)
                        parameter.sub_(0.01 * speed)
    for found, value in zip(values(head), values(expected), strict=True):
        assert torch.allclose(found.double(), value.double(), atol=1e-5)


def test_a_last_batch_of_one_row_is_left_out() -> None:
    rows, labels = separable(9, seed=0)
    head = mlp(8, 16, CLASSES).requires_grad_(False)
    config = CMSFSemiConfig(head_batch_size=8, head_epochs=1)
    train_pseudo_label_head(head, rows, labels, config=config, generator=torch.Generator())
    assert head.state_dict()["layers.1.num_batches_tracked"] == 1


def test_the_head_learns_and_then_its_guesses_constrain() -> None:
    semi = method(replace(CONFIG, labelled_bank_size=300))
    assert semi.loss(batch(0), START).metrics["constrained"] == pytest.approx(4 / 8)
    rows, labels = separable(300, seed=0)
    semi.labelled.enqueue(rows, torch.arange(300))
    semi.labelled_label.copy_(labels.roll(semi.labelled.position))
    for _ in range(3):
        semi.at_epoch_end(START)
    rows, labels = separable(200, seed=1)
    with torch.no_grad():
        guesses = pseudo_labels(semi.head(rows), torch.full((200,), -1), threshold=0.85)
    assert (guesses == labels).float().mean() > 0.9


def trained_head(seed: int) -> list[Tensor]:
    semi = method()
    semi.loss(batch(0), START)
    torch.manual_seed(seed)
    semi.at_epoch_end(START)
    return values(semi.head)


def test_the_head_is_a_function_of_the_steps_randomness_alone() -> None:
    first, again, other = trained_head(3), trained_head(3), trained_head(4)
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert not all(torch.equal(*pair) for pair in zip(first, other, strict=True))


def test_all_ranks_hold_the_same_labelled_rows_and_train_the_same_head(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = (batch(0), batch(1, GIVEN.flip(0)))
    with torch.no_grad():
        targets = torch.cat([F.normalize(method().target(each.views[1]), dim=1) for each in shown])
    index = torch.cat([each.index for each in shown])
    labels = torch.cat([GIVEN, GIVEN.flip(0)])
    states = []
    for place, own in enumerate(shown):
        semi = method()
        monkeypatch.setattr("training.methods.image.mean_shift.rank", lambda place=place: place)
        answers = iter([targets, index])
        monkeypatch.setattr("training.methods.image.mean_shift.gather", lambda _, answers=answers: next(answers))
        monkeypatch.setattr("training.methods.image.cmsf_sup.gather", lambda _: labels)
        # Of the head's two draws, rank 0's is taken.
        monkeypatch.setattr(cmsf_semi, "gather", lambda rows: labels if len(rows) > 1 else torch.tensor([5, 6]))
        semi.loss(own, START)
        torch.manual_seed(place)
        semi.at_epoch_end(START)
        states.append({k: torch.as_tensor(v) for k, v in semi.state_dict().items() if k.startswith(("head", "lab"))})
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert states[0]["labelled_label"].tolist() == [0, 2, 1, 0, 0, 1, 2, 0] + [-1] * 8


def test_autocast_leaves_the_guess_in_full_precision() -> None:
    semi = method(replace(CONFIG, confidence_threshold=0))
    seen: list[torch.dtype] = []
    semi.head.register_forward_hook(lambda *found: seen.append(found[2].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = semi.loss(batch(0), START).loss
    assert seen == [torch.float32]
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)


def test_it_is_shown_all_images_and_some_labels() -> None:
    assert CMSFSemi.needs == Needs(index=True, dataset_size=True, labels=True)
    with pytest.raises(ValueError, match="the batch has no labels"):
        method().loss(batch(0, None), START)


def test_the_settings_are_the_papers() -> None:
    paper = CMSFSemiConfig()
    assert (paper.bank_size, paper.neighbour_count, paper.confidence_threshold) == (128_000, 10, 0.85)
    assert (paper.labelled_bank_size, paper.head_epochs) == (128_000, 10)
    assert (paper.head_batch_size, paper.head_learning_rate) == (256, 0.01)
    head = method().head
    assert [(block.inputs, block.outputs, block.batch_norm, block.relu) for block in head.blocks] == [
        (8, 16, True, True),
        (16, CLASSES, False, False),
    ]


def test_sizes_follow_the_data_where_not_given() -> None:
    own = replace(CONFIG, bank_size=None, labelled_bank_size=None)
    assert method(own).labelled.size == 8
    large = method(own, replace(CONTEXT, dataset_size=2000))
    assert (large.bank.size, large.labelled.size) == (1000, 200)


def test_what_does_not_fit_the_data_is_refused() -> None:
    with pytest.raises(ValueError, match=r"labelled_bank_size \(7\) must be >= the batch of 8"):
        method(replace(CONFIG, labelled_bank_size=7))
    with pytest.raises(ValueError, match="at least 2 classes are needed to guess one, got 1"):
        method(context=replace(CONTEXT, class_count=1))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("confidence_threshold", -0.1),
        ("confidence_threshold", float("nan")),
        ("head_epochs", 0),
        ("head_batch_size", 1),
        ("head_learning_rate", 0.0),
        ("neighbour_count", 0),
        ("ema_decay", 1.5),
    ],
)
def test_bad_settings_are_refused(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"{name} \({value}\)"):
        CMSFSemiConfig(**settings)

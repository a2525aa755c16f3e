from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.training.methods.pictures import SIZE_PX, draw_pictures, learn_by_itself, method_batch, part, small_encoder
from training.methods.base import MethodContext, Progress
from training.methods.image.self_training import (
    SelfTraining,
    SelfTrainingConfig,
    balanced_copies,
    pseudo_label_loss,
)

START = Progress(step=0, max_steps=100, epoch=0)
CONTEXT = MethodContext(dataset_size=400, batch_size=64, image_size_px=SIZE_PX, class_count=4)
SMALL = SelfTrainingConfig(images_per_class=4, dropout=0.0, unlabelled_weight=1.0)


def says(seed: int = 0) -> Tensor:
    """A teacher's predictions of 400 pictures: mostly right, some unsure; zeros where the label is shown."""
    _, kinds = draw_pictures(400, seed=0)
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * nn.functional.one_hot(kinds, 4) + torch.randn(400, 4, generator=generator)
    return torch.where((torch.arange(400) // 4 % 2 == 0)[:, None], 0.0, logits.softmax(dim=1))


def student(config: SelfTrainingConfig = SMALL, predictions: Tensor | None = None, seed: int = 0) -> SelfTraining:
    encoder = small_encoder(seed=seed)
    return SelfTraining(encoder, config, context=replace(CONTEXT, predictions=predictions))


def test_every_predicted_class_is_learnt_from_as_often() -> None:
    predictions = torch.tensor(
        [[0.9, 0.1, 0.0], [0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.1, 0.7], [0.34, 0.33, 0.33]]
    )
    # Two of each class: the surest of the first, the only one of the second twice; 0.34 passes and is not among them.
    assert balanced_copies(predictions, threshold=0.3, per_class=2).tolist() == [1, 1, 0, 2, 2, 0]
    # All six that pass, spread over three classes, are two of each as well.
    assert balanced_copies(predictions, threshold=0.3).tolist() == [1, 1, 0, 2, 2, 0]
    assert balanced_copies(predictions, threshold=0.65, per_class=5).tolist() == [2, 2, 1, 0, 5, 0]
    assert balanced_copies(predictions, threshold=1.01).sum() == 0
    assert balanced_copies(torch.zeros(3, 2), threshold=0.0).sum() == 0  # nothing is known of them


def test_the_balance_holds_on_many() -> None:
    predictions = says()
    copies = balanced_copies(predictions, threshold=0.3)
    by_class = torch.zeros(4, dtype=torch.int64).index_add(0, predictions.argmax(dim=1), copies)
    assert int(by_class.max() - by_class.min()) == 0
    assert not copies[predictions.max(dim=1).values < 0.3].any()


def test_the_loss_is_the_weighted_mean_of_the_cross_entropies() -> None:
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0], [5.0, -5.0]])
    targets = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    # log 2; (log 4/3 + log 4) / 2; the third counts for nothing.
    expected = (2 * math.log(2) + (math.log(4 / 3) + math.log(4)) / 2) / 3
    assert pseudo_label_loss(logits, targets, torch.tensor([2, 1, 0])).item() == pytest.approx(expected, rel=1e-6)
    assert pseudo_label_loss(logits, targets, torch.tensor([0, 0, 0])).item() == 0.0
    assert pseudo_label_loss(logits, torch.full((3, 2), 0.5), torch.ones(3)).item() >= math.log(2)


@pytest.mark.parametrize(
    "config", [replace(SMALL, threshold=1.01), replace(SMALL, unlabelled_weight=0.0)], ids=["threshold", "weight"]
)
def test_where_no_pseudo_label_counts_the_labels_alone_teach(config: SelfTrainingConfig) -> None:
    taught, alone = student(config, says()), student(config)
    gradients = []
    for method in (taught, alone):
        loss = method.loss(method_batch(method, count=32, step=0), START).loss
        torch.autograd.backward(loss)
        gradients.append(torch.cat([p.grad.reshape(-1) for p in method.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


def test_labels_of_the_batch_are_not_learnt_as_pseudo_labels() -> None:
    predictions = says()
    wrong = torch.where(predictions.sum(dim=1, keepdim=True) == 0, torch.tensor([1.0, 0.0, 0.0, 0.0]), predictions)
    batch = method_batch(student(), count=64, step=0)
    assert batch.label is not None
    assert bool((batch.label >= 0).any())

    method = student(predictions=wrong)
    output = method.loss(batch, START)
    weights = method.copies[batch.index] * (batch.label < 0)
    logits = method.classifier(output.projections)[16:]
    expected = pseudo_label_loss(logits, wrong[batch.index], weights)
    torch.testing.assert_close(output.metrics["unlabelled"], expected.detach(), rtol=1e-5, atol=1e-6)


def test_the_teacher_is_not_changed_by_its_student() -> None:
    predictions = says()
    before = predictions.clone()
    method = student(predictions=predictions)
    targets = method.targets.clone()
    learn_by_itself(method, torch.optim.SGD(method.parameters(), lr=0.1), steps=range(3))
    assert torch.equal(predictions, before)
    assert torch.equal(method.targets, targets)
    assert not method.targets.requires_grad


def test_hard_labels_are_the_likeliest_class() -> None:
    predictions = says()
    hard = student(replace(SMALL, soft_labels=False), predictions)
    assert torch.equal(hard.targets.argmax(dim=1), predictions.argmax(dim=1))
    assert set(hard.targets.reshape(-1).tolist()) == {0.0, 1.0}
    assert torch.equal(hard.copies, student(predictions=predictions).copies)


def test_pseudo_labels_are_part_of_the_state() -> None:
    method, other = student(predictions=says()), student(predictions=says(seed=5), seed=1)
    assert not torch.equal(method.targets, other.targets)
    other.load_state_dict(method.state_dict())
    assert torch.equal(method.targets, other.targets)
    assert torch.equal(method.copies, other.copies)


def test_dropout_makes_the_student_unsure_and_only_while_it_learns() -> None:
    method = student(replace(SMALL, dropout=0.5), says())
    batch = method_batch(method, count=32, step=0)
    losses = {method.loss(batch, START).loss.item() for _ in range(2)}
    assert len(losses) == 2
    assert part(method, "dropout.p") == 0.5


def test_a_student_learns_from_a_good_teacher_what_few_labels_do_not_teach() -> None:
    config = replace(SMALL, images_per_class=1, smallest_crop=0.5)
    _, kinds = draw_pictures(400, seed=0)
    told = nn.functional.one_hot(kinds, 4).float()
    right = []
    for predictions in (told, None):
        method = student(config, predictions)
        output = learn_by_itself(method, torch.optim.Adam(method.parameters(), lr=0.003), steps=range(60))
        batch = method_batch(method, count=200, step=99)
        method.eval()
        named = method.classifier(method.encoder(batch.views[0])).argmax(dim=1)
        right.append(float((named == kinds[batch.index]).float().mean()))
        assert torch.isfinite(output.loss)
    assert right[0] > 0.5
    assert right[0] > right[1] + 0.1


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"predictions must be \[images, classes\] = \[400, 4\], got \[400, 3\]"):
        student(predictions=torch.zeros(400, 3))
    with pytest.raises(ValueError, match="at least 2 classes are needed, got 1"):
        SelfTraining(small_encoder(seed=0), SMALL, context=replace(CONTEXT, class_count=1))
    method = student()
    with pytest.raises(ValueError, match="needs labelled images beside the batch"):
        method.loss(replace(method_batch(method, count=8, step=0), support=None), START)
    for wrong in ({"generations": -1}, {"threshold": -0.1}, {"dropout": 1.0}, {"pseudo_labels_per_class": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SelfTrainingConfig(**wrong)


@pytest.mark.parametrize(("classes", "expected"), [(4, 20), (10, 8), (200, 1)])
def test_eighty_labelled_images_stand_beside_a_batch(classes: int, expected: int) -> None:
    config = replace(SMALL, images_per_class=None)
    method = SelfTraining(small_encoder(seed=0), config, context=replace(CONTEXT, class_count=classes))
    assert method.support().images_per_class == expected

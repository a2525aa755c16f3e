from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.training.methods.pictures import SIZE_PX, knn_accuracy, learn_by_itself, method_batch, small_encoder
from training.methods.base import MethodContext, Progress
from training.methods.image.supervised import Supervised, SupervisedConfig, supervised_loss
from training.views.presets import Augmentation, view_of

CONTEXT = MethodContext(dataset_size=400, batch_size=64, image_size_px=SIZE_PX, class_count=4)
START = Progress(step=0, max_steps=100, epoch=0)


def method(config: SupervisedConfig | None = None, context: MethodContext = CONTEXT) -> Supervised:
    return Supervised(small_encoder(seed=0), config or SupervisedConfig(), context=context)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_a_naive_cross_entropy(smoothing: float) -> None:
    logits, labels = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 3, 1, 2, 2, 0])
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        norm = math.log(sum(map(math.exp, row)))
        for name, logit in enumerate(row):
            total -= ((1 - smoothing) * (name == label) + smoothing / 4) * (logit - norm)
    found = supervised_loss(logits, labels, label_smoothing=smoothing)
    assert found.item() == pytest.approx(total / 6, abs=1e-5)
    assert supervised_loss(0 * logits, labels, label_smoothing=smoothing).item() == pytest.approx(math.log(4), abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loss_of_half_precision_logits_is_fp32_and_near(dtype: torch.dtype) -> None:
    logits, labels = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 4
    found = supervised_loss(logits.to(dtype), labels)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(supervised_loss(logits, labels).item(), abs=2e-2)


def test_it_asks_for_labelled_images_alone() -> None:
    assert method().needs.labels
    assert method().needs.every_label


def test_loss_is_of_the_batch_s_own_labels() -> None:
    supervised = method(SupervisedConfig(label_smoothing=0.1))
    batch = method_batch(supervised, count=16, step=0)
    assert batch.label is not None
    output = supervised.loss(batch, START)
    logits = supervised.classifier(output.projections)
    assert logits.shape == (16, 4)
    torch.testing.assert_close(output.loss, supervised_loss(logits, batch.label, label_smoothing=0.1))
    hits = (logits.argmax(dim=1) == batch.label).float().mean()
    assert float(output.metrics["accuracy"]) == pytest.approx(hits.item())


def test_a_batch_or_data_without_labels_are_refused() -> None:
    supervised = method()
    batch = method_batch(supervised, count=8, step=0)
    with pytest.raises(ValueError, match="the batch has none"):
        supervised.loss(replace(batch, label=None), START)
    with pytest.raises(ValueError, match=r"at least 2 classes .* got 1"):
        method(context=replace(CONTEXT, class_count=1))


def test_the_view_is_cropped_a_little_and_flipped() -> None:
    assert method().views() == (view_of(Augmentation.WEAK, SIZE_PX, smallest_crop=0.76),)


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_bad_settings_are_refused(value: float) -> None:
    settings: dict[str, Any] = {"label_smoothing": value}
    with pytest.raises(ValueError, match=rf"label_smoothing \({value}\)"):
        SupervisedConfig(**settings)


def test_it_learns_the_kinds_of_pictures() -> None:
    supervised = method()
    untrained = knn_accuracy(supervised.encoder)
    output = learn_by_itself(supervised, torch.optim.Adam(supervised.parameters(), lr=0.005), steps=range(30))
    assert output.loss.item() < math.log(4) - 0.3
    assert knn_accuracy(supervised.encoder) > untrained + 0.1

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.config import ImageEncoderConfig
from models.image.build import build_image_encoder
from tests.training.methods.pictures import SIZE_PX, learn_by_itself, method_batch, part, small_encoder
from training.methods.base import MethodContext, Progress, Support
from training.methods.image.paws import (
    PAWS,
    PAWSConfig,
    consistency_loss,
    entropy,
    paws_targets,
    sharpen,
    smooth_labels,
    soft_nearest_neighbours,
)
from training.views.presets import Augmentation

CONTEXT = MethodContext(dataset_size=400, batch_size=64, image_size_px=SIZE_PX, class_count=4)
START = Progress(step=0, max_steps=100, epoch=0)
SMALL = PAWSConfig(images_per_class=3, small_views=2, projection_width=8, hidden_width=16)


def method(config: PAWSConfig = SMALL) -> PAWS:
    return PAWS(small_encoder(seed=0), config, context=CONTEXT)


def random_case(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Returns queries, supports of three classes, and their smoothed labels."""
    generator = torch.Generator().manual_seed(seed)
    queries, supports = torch.randn(10, 5, generator=generator), torch.randn(6, 5, generator=generator)
    return queries, supports, smooth_labels(torch.arange(6) % 3, class_count=3, smoothing=0.1)


def chances(rows: int, classes: int, *, seed: int = 0) -> Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed)).softmax(dim=1)


def test_losses_equal_the_worked_numbers() -> None:
    predictions = soft_nearest_neighbours(torch.tensor([[1.0, 0.0]]), torch.eye(2), torch.eye(2), temperature=1.0)
    torch.testing.assert_close(predictions, torch.tensor([[0.731059, 0.268941]]), atol=1e-5, rtol=0)
    target = sharpen(predictions, temperature=0.25)
    torch.testing.assert_close(target, torch.tensor([[0.982014, 0.017986]]), atol=1e-5, rtol=0)
    assert consistency_loss(predictions, target).item() == pytest.approx(0.331248, abs=1e-5)
    assert -entropy(torch.tensor([0.5, 0.5])).item() == pytest.approx(-0.693147, abs=1e-5)


def test_labels_are_smoothed_as_in_the_paper() -> None:
    found = smooth_labels(torch.tensor([3]), class_count=10, smoothing=0.1)
    expected = [0.91 if name == 3 else 0.01 for name in range(10)]
    torch.testing.assert_close(found[0], torch.tensor(expected))


def test_predictions_equal_a_naive_loop_and_sum_to_1() -> None:
    queries, supports, labels = random_case()
    found = soft_nearest_neighbours(queries, supports, labels, temperature=0.1)
    for query, row in zip(queries, found, strict=True):
        weights = [math.exp(float(F.cosine_similarity(query, s, dim=0)) / 0.1) for s in supports]
        mixed = [sum(w * float(y[c]) for w, y in zip(weights, labels, strict=True)) / sum(weights) for c in range(3)]
        assert row.tolist() == pytest.approx(mixed, abs=1e-5)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(10))


def test_predictions_do_not_hang_on_the_order_or_length_of_the_supports() -> None:
    queries, supports, labels = random_case()
    found = soft_nearest_neighbours(queries, supports, labels, temperature=0.1)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    permuted = soft_nearest_neighbours(3 * queries, 0.2 * supports[order], labels[order], temperature=0.1)
    torch.testing.assert_close(permuted, found)
    confused = soft_nearest_neighbours(queries, supports[order], labels, temperature=0.1)
    assert (confused - found).abs().max() > 0.1


def test_unequal_numbers_are_refused() -> None:
    queries, supports, labels = random_case()
    with pytest.raises(ValueError, match=r"supports \(5\) and labels \(6\)"):
        soft_nearest_neighbours(queries, supports[:5], labels, temperature=0.1)


def test_sharpening_is_a_power_and_survives_small_chances() -> None:
    predictions = chances(4, 5)
    powers = predictions**4
    torch.testing.assert_close(sharpen(predictions, temperature=0.25), powers / powers.sum(dim=1, keepdim=True))
    many = torch.full((1, 1000), 1e-3)
    torch.testing.assert_close(sharpen(many, temperature=0.05), many)  # 1e-60 is 0 in fp32
    certain = torch.tensor([[1.0, 0.0]], requires_grad=True)
    found = sharpen(certain, temperature=0.25)
    assert found.tolist() == [[1.0, 0.0]]
    torch.autograd.backward(entropy(found[0]))
    assert certain.grad is not None
    assert torch.isfinite(certain.grad).all()


def test_targets_are_the_other_view_s_and_small_views_get_the_mean_of_both() -> None:
    large = chances(6, 4)
    first, second = sharpen(large, temperature=0.5).chunk(2)
    found = paws_targets(large, small_views=2, temperature=0.5)
    mean = (first + second) / 2
    torch.testing.assert_close(found, torch.cat([second, first, mean, mean]))
    assert len(paws_targets(large, small_views=0, temperature=0.5)) == 6


def test_targets_are_constants_and_hardly_likely_ones_are_0() -> None:
    large = torch.tensor([[0.9, 0.1], [0.5, 0.5]], requires_grad=True)  # 0.1^4 / 0.9^4 is 0.00015
    assert not paws_targets(large, small_views=1, temperature=0.25).requires_grad
    kept = paws_targets(large, small_views=0, temperature=0.25)
    assert float(kept[1, 1]) == pytest.approx(0.000152, abs=1e-5)
    assert paws_targets(large, small_views=0, temperature=0.2)[1].tolist() == pytest.approx([1.0, 0.0], abs=1e-4)
    assert float(paws_targets(large, small_views=0, temperature=0.2)[1, 1]) == 0.0


def test_gradient_reaches_predictions_and_no_targets() -> None:
    predictions, targets = chances(4, 3).requires_grad_(), chances(4, 3, seed=1).requires_grad_()
    torch.autograd.backward(consistency_loss(predictions, targets))
    assert predictions.grad is not None
    assert targets.grad is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_projections_give_nearly_the_same(dtype: torch.dtype) -> None:
    queries, supports, labels = random_case()

    def loss(kind: torch.dtype) -> Tensor:
        predictions = soft_nearest_neighbours(queries.to(kind), supports.to(kind), labels, temperature=0.1)
        return consistency_loss(predictions, paws_targets(predictions, small_views=0, temperature=0.25))

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(dtype)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(loss(torch.float32).item(), abs=2e-2)


def test_autocast_leaves_the_products_in_full_precision() -> None:
    queries, supports, labels = random_case()
    expected = soft_nearest_neighbours(queries, supports, labels, temperature=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = soft_nearest_neighbours(queries, supports, labels, temperature=0.1)
    assert torch.equal(found, expected)


def test_a_very_low_temperature_stays_finite_with_hard_labels() -> None:
    queries, supports, _ = random_case()
    labels = smooth_labels(torch.arange(6) % 3, class_count=3, smoothing=0.0)
    queries.requires_grad_()
    predictions = soft_nearest_neighbours(queries, supports, labels, temperature=0.005)
    assert (predictions == 0).any()
    targets = paws_targets(predictions, small_views=0, temperature=0.25)
    loss = consistency_loss(predictions, targets) - entropy(sharpen(predictions, temperature=0.25).mean(dim=0))
    torch.autograd.backward(loss)
    assert torch.isfinite(loss)
    assert queries.grad is not None
    assert torch.isfinite(queries.grad).all()


def test_the_loss_is_the_paper_s_with_labels_in_the_sampler_s_order() -> None:
    paws = method()
    projected: list[Tensor] = []
    paws.projector.register_forward_hook(lambda _module, _inputs, output: projected.append(output.detach()))
    batch = method_batch(paws, count=6, step=0)
    assert batch.support is not None

    output = paws.loss(batch, START)

    # Twelve supports in two views each, then two large and two small views of six images.
    supports, views = projected[0].chunk(2)
    names = [0, 1, 2, 3] * 6
    assert batch.support.label.tolist() == names[:12]
    onehot = torch.full((24, 4), 0.025)
    onehot[range(24), names] = 0.925
    p = (F.normalize(views) @ F.normalize(supports).T / 0.1).softmax(dim=1) @ onehot
    sharp = p**4 / (p**4).sum(dim=1, keepdim=True)
    first, second = sharp[:6], sharp[6:12]
    target = torch.cat([second, first, (first + second) / 2, (first + second) / 2])
    target = torch.where(target < 1e-4, 0, target)
    mean = sharp.mean(dim=0)
    cross, spread = -(target * p.log()).sum(dim=1).mean(), -(mean * mean.log()).sum()
    torch.testing.assert_close(output.loss.detach(), cross - spread, atol=1e-5, rtol=1e-5)
    assert float(output.metrics["cross_entropy"]) == pytest.approx(cross.item(), abs=1e-5)
    assert float(output.metrics["mean_entropy"]) == pytest.approx(spread.item(), abs=1e-5)
    assert torch.equal(output.projections, views[:12])


def test_the_mean_entropy_is_raised_and_may_be_left_out() -> None:
    batch = method_batch(method(), count=6, step=0)
    with_it, without = (
        method(replace(SMALL, mean_entropy_weight=weight)).loss(batch, START).loss.item() for weight in (1.0, 0.0)
    )
    spread = float(method().loss(batch, START).metrics["mean_entropy"])
    assert with_it == pytest.approx(without - spread, abs=1e-5)
    assert 0 < spread <= math.log(4)


def test_supports_are_learnt_from_and_a_batch_s_own_labels_are_not() -> None:
    paws = method()
    # At the projections: before them, BatchNorm too leads a gradient from the views to the supports.
    projected: list[Tensor] = []

    def watch(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        output.retain_grad()
        projected.append(output)

    paws.projector.register_forward_hook(watch)
    batch = method_batch(paws, count=6, step=0)
    assert batch.support is not None
    assert batch.label is not None
    loss = paws.loss(batch, START).loss
    torch.autograd.backward(loss)
    assert projected[0].grad is not None
    assert projected[0].grad.abs().amax(dim=1).min() > 1e-6  # of supports and views, every one
    assert paws.loss(replace(batch, label=(batch.label + 1) % 4), START).loss.item() == loss.item()
    other = replace(batch, support=Support(batch.support.views, batch.support.label.roll(1)))
    # Only the names of the classes change, which the loss does not hang on; another grouping does.
    torch.testing.assert_close(paws.loss(other, START).loss, loss)
    torn = replace(batch, support=Support(batch.support.views, batch.support.label.sort().values))
    assert abs(paws.loss(torn, START).loss.item() - loss.item()) > 1e-3


def test_supports_and_large_views_share_one_batch_norm_pass() -> None:
    paws = method()
    paws.loss(method_batch(paws, count=6, step=0), START)
    assert int(part(paws, "encoder.backbone.1.num_batches_tracked")) == 2  # large, small
    assert int(part(paws, "projector.layers.1.num_batches_tracked")) == 1
    alone = method(replace(SMALL, small_views=0))
    alone.loss(method_batch(alone, count=6, step=0), START)
    assert int(part(alone, "encoder.backbone.1.num_batches_tracked")) == 1


def test_views_are_large_and_small_and_supports_large() -> None:
    views, support = method().views(), method().support()
    assert [view.size_px for view in views] == [16, 16, 8, 8]
    assert [view.crop_scale for view in views] == [(0.75, 1.0)] * 2 + [(0.3, 0.75)] * 2
    assert (support.images_per_class, support.views) == (3, views[:1] * 2)
    assert len(PAWSConfig().multi_crop(32)) == 8
    assert PAWSConfig().augmentation is Augmentation.SIMCLR


@pytest.mark.parametrize(("classes", "expected"), [(4, 10), (10, 4), (100, 1)])
def test_supports_follow_the_classes_where_not_given(classes: int, expected: int) -> None:
    config = replace(SMALL, images_per_class=None)
    paws = PAWS(small_encoder(seed=0), config, context=replace(CONTEXT, class_count=classes))
    assert paws.support().images_per_class == expected


def test_heads_are_as_wide_as_the_representation_unless_told() -> None:
    assert [block.outputs for block in method(replace(SMALL, projection_width=None)).projector.blocks] == [16, 16, 32]
    bare = replace(SMALL, projection_width=None, hidden_width=None)
    assert [(block.outputs, block.relu) for block in method(bare).projector.blocks] == [
        (32, True),
        (32, True),
        (32, False),
    ]


def test_what_it_cannot_learn_from_is_refused() -> None:
    paws = method()
    with pytest.raises(ValueError, match="needs labelled images beside the batch"):
        paws.loss(replace(method_batch(paws, count=6, step=0), support=None), START)
    with pytest.raises(ValueError, match="at least 2 classes are needed, got 0"):
        PAWS(small_encoder(seed=0), SMALL, context=replace(CONTEXT, class_count=0))
    encoder = build_image_encoder(ImageEncoderConfig(architecture="vit-tiny", image_size_px=16))
    with pytest.raises(ValueError, match=r"vit-tiny reads images of 16 px alone, .* 8 px"):
        PAWS(encoder, SMALL, context=CONTEXT)
    assert len(PAWS(encoder, replace(SMALL, small_views=0), context=CONTEXT).views()) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("images_per_class", 0),
        ("support_views", 0),
        ("projection_width", 0),
        ("hidden_width", 0),
        ("temperature", 0.0),
        ("sharpening_temperature", 0.0),
        ("sharpening_temperature", 1.1),
        ("label_smoothing", 1.0),
        ("mean_entropy_weight", -1.0),
    ],
)
def test_bad_settings_are_refused(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"{name} \({value}\)"):
        PAWSConfig(**settings)


def test_it_learns_to_agree_without_falling_into_one_class() -> None:
    paws = method(replace(SMALL, small_views=0, images_per_class=8))
    optimiser = torch.optim.Adam(paws.parameters(), lr=0.003)
    first = learn_by_itself(paws, optimiser, steps=range(1))
    output = learn_by_itself(paws, optimiser, steps=range(1, 15))
    assert output.loss.item() < first.loss.item() - 0.1
    assert float(output.metrics["mean_entropy"]) > 0.8 * math.log(4)

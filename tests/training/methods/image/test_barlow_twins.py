from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.training.methods.pictures import SIZE_PX, image_batch, learn, part, small_encoder, view_retrieval
from training.methods.base import MethodContext, Progress
from training.methods.image.barlow_twins import BarlowTwins, BarlowTwinsConfig, barlow_twins_loss, barlow_twins_terms
from training.methods.recipes import RecipeName
from training.views.presets import Augmentation, view_of
from training.views.spec import ViewSpec

FIRST = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
SECOND = torch.tensor([[1.0, 1.0], [1.0, 1.0], [-1.0, -1.0], [-1.0, -1.0]])

CONTEXT = MethodContext(dataset_size=400, batch_size=64, image_size_px=SIZE_PX)
CONFIG = BarlowTwinsConfig(projection_width=24, hidden_width=40)
CROPS = ViewSpec(size_px=SIZE_PX, crop_scale=(0.4, 1.0), jitter_probability=0.0, grey_probability=0.0)
START = Progress(step=0, max_steps=10, epoch=0)


def random_views(count: int = 12, width: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    first, noise = torch.randn(2, count, width, generator=generator)
    return first * torch.linspace(0.5, 3, width) + 2, first + 0.5 * noise


def naive_loss(first: Tensor, second: Tensor, weight: float) -> float:
    count, width = first.shape
    views = []
    for view in (first.double(), second.double()):
        deviation = ((view - view.mean(dim=0)).square().sum(dim=0) / count + 1e-5).sqrt()
        views.append((view - view.mean(dim=0)) / deviation)
    total = 0.0
    for i in range(width):
        for j in range(width):
            correlation = sum(float(views[0][row, i] * views[1][row, j]) for row in range(count)) / count
            total += (1 - correlation) ** 2 if i == j else weight * correlation**2
    return total


def method(config: BarlowTwinsConfig = CONFIG) -> BarlowTwins:
    return BarlowTwins(small_encoder(seed=0), config, context=CONTEXT)


def test_loss_equals_the_worked_numbers() -> None:
    # C = [[1, 1], [0, 0]]; with the unbiased deviation it would be 1.065369.
    assert barlow_twins_loss(FIRST, SECOND, redundancy_weight=0.0051).item() == pytest.approx(1.0051, abs=1e-5)
    invariance, redundancy = barlow_twins_terms(FIRST, SECOND)
    assert (invariance.item(), redundancy.item()) == pytest.approx((1.0, 1.0), abs=5e-5)


def test_equal_whitened_views_cost_nothing() -> None:
    # With the unbiased deviation 0.125.
    assert barlow_twins_loss(FIRST, FIRST, redundancy_weight=0.0051).item() < 1e-8


@pytest.mark.parametrize("weight", [0.0051, 0.3])
def test_loss_equals_a_naive_loop(weight: float) -> None:
    first, second = random_views()
    expected = naive_loss(first, second, weight)
    assert barlow_twins_loss(first, second, redundancy_weight=weight).item() == pytest.approx(expected, abs=1e-5)


def test_constant_views_cost_their_width_and_no_nan() -> None:
    first = torch.ones(6, 4, requires_grad=True)
    loss = barlow_twins_loss(first, torch.ones(6, 4), redundancy_weight=0.0051)
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(4, abs=1e-5)
    assert first.grad is not None
    assert torch.isfinite(first.grad).all()


def test_loss_is_invariant_to_each_columns_scale_and_shift_and_to_order_but_not_to_rotation() -> None:
    first, second = random_views()
    loss = barlow_twins_loss(first, second, redundancy_weight=0.1)
    scale, shift = torch.tensor([0.5, 1, 7, 2, 3]), torch.tensor([0.0, -3, 5, 1, 2])
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    for changed in ((first * scale + shift, second), (first, second * scale + shift), (first[order], second[order])):
        torch.testing.assert_close(barlow_twins_loss(*changed, redundancy_weight=0.1), loss, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(barlow_twins_loss(second, first, redundancy_weight=0.1), loss)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1))).Q
    rotated = barlow_twins_loss(first @ rotation, second @ rotation, redundancy_weight=0.1)
    assert (rotated - loss).abs() > 0.01


def test_the_batchs_size_does_not_change_the_loss() -> None:
    first, second = random_views()
    twice = barlow_twins_loss(first.repeat(2, 1), second.repeat(2, 1), redundancy_weight=0.1)
    torch.testing.assert_close(twice, barlow_twins_loss(first, second, redundancy_weight=0.1))


def test_both_views_learn() -> None:
    first, second = (view.requires_grad_() for view in random_views())
    torch.autograd.backward(barlow_twins_loss(first, second, redundancy_weight=0.1))
    for view in (first, second):
        assert view.grad is not None
        assert view.grad.abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loss_of_half_precision_projections_is_fp32_and_near(dtype: torch.dtype) -> None:
    first, second = random_views()
    expected = barlow_twins_loss(first, second, redundancy_weight=0.0051)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = barlow_twins_loss(first.to(dtype), second.to(dtype), redundancy_weight=0.0051)
        exact = barlow_twins_loss(first, second, redundancy_weight=0.0051)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), abs=2e-2)
    torch.testing.assert_close(exact, expected, rtol=0, atol=0)


def test_bad_input_is_refused() -> None:
    first, second = random_views()
    with pytest.raises(ValueError, match=r"\[12, 5\] and \[4, 5\]"):
        barlow_twins_loss(first, second[:4], redundancy_weight=1)
    with pytest.raises(ValueError, match="n >= 2"):
        barlow_twins_loss(first[:1], second[:1], redundancy_weight=1)


def test_the_method_compares_both_views_of_one_pass() -> None:
    barlow = method()
    batch = image_batch(barlow.views(), count=8, step=0)
    passes = int(part(barlow, "encoder.backbone.1.num_batches_tracked"))
    first, second = barlow.projector(barlow.encoder(torch.cat(batch.views))).chunk(2)
    output = barlow.loss(batch, START)
    assert int(part(barlow, "encoder.backbone.1.num_batches_tracked")) == passes + 2
    torch.testing.assert_close(output.loss, barlow_twins_loss(first, second, redundancy_weight=0.0051))
    torch.testing.assert_close(output.projections, torch.cat([first, second]).detach())
    total = output.metrics["invariance"] + 0.0051 * output.metrics["redundancy"]
    assert float(total) == pytest.approx(output.loss.item(), rel=1e-5)


def test_the_head_is_the_papers() -> None:
    head = method().projector
    assert [type(layer).__name__ for layer in head.layers] == [*["Linear", "BatchNorm1d", "ReLU"] * 2, "Linear"]
    linear = [layer for layer in head.layers if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in linear] == [40, 40, 24]
    assert all(layer.bias is None for layer in linear)
    assert (BarlowTwinsConfig().hidden_width, BarlowTwinsConfig().projection_width) == (8192, 8192)


def test_views_are_byols_unless_told() -> None:
    first, second = method().views()
    assert first == view_of(Augmentation.BYOL_FIRST, SIZE_PX)
    assert second == view_of(Augmentation.BYOL_SECOND, SIZE_PX)
    first, second = method(replace(CONFIG, augmentation=Augmentation.GREY)).views()
    assert first == second == view_of(Augmentation.GREY, SIZE_PX)


def test_biases_and_norms_have_a_rate_of_their_own() -> None:
    weights, biases = method().param_groups()
    assert {parameter.ndim for parameter in biases["params"]} == {1}
    assert min(parameter.ndim for parameter in weights["params"]) == 2
    assert (weights.get("lr_scale", 1.0), biases["lr_scale"]) == (1.0, pytest.approx(0.0048 / 0.2))
    assert BarlowTwins.recipes[RecipeName.SCRATCH].settings["bias_lr_scale"] == 1


def test_it_learns_to_know_a_picture_again() -> None:
    barlow = method()
    untrained = view_retrieval(barlow.encoder, CROPS)
    output = learn(barlow, torch.optim.Adam(barlow.parameters(), lr=0.003), [CROPS] * 2, steps=range(25))
    assert float(output.metrics["invariance"]) < 0.1 * 24
    assert view_retrieval(barlow.encoder, CROPS) > untrained + 0.1


@pytest.mark.parametrize(
    ("name", "value"),
    [("redundancy_weight", -0.1), ("projection_width", 0), ("hidden_width", 0), ("bias_lr_scale", -1.0)],
)
def test_bad_settings_are_refused(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"{name} \({value}\)"):
        BarlowTwinsConfig(**settings)

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.training.methods.pictures import SIZE_PX, image_batch, learn, part, small_encoder, view_retrieval
from training.methods.base import MethodContext, Progress
from training.methods.image.vicreg import VICReg, VICRegConfig, vicreg_loss, vicreg_terms
from training.views.presets import Augmentation, view_of
from training.views.spec import ViewSpec

CONTEXT = MethodContext(dataset_size=400, batch_size=64, image_size_px=SIZE_PX)
CONFIG = VICRegConfig(projection_width=24, hidden_width=40)
CROPS = ViewSpec(size_px=SIZE_PX, crop_scale=(0.4, 1.0), jitter_probability=0.0, grey_probability=0.0)
START = Progress(step=0, max_steps=10, epoch=0)
# Columns without mean or correlation, of unbiased variance 1.
WHITE = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]) * 0.75**0.5


def random_views(count: int = 12, width: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    first, noise = torch.randn(2, count, width, generator=generator)
    return first * torch.linspace(0.2, 1.5, width) + 2, first * 0.6 + 0.3 * noise + 2


def naive_loss(first: Tensor, second: Tensor) -> float:
    count, width = first.shape
    views: list[list[list[float]]] = [view.double().tolist() for view in (first, second)]
    distance = sum((views[0][n][d] - views[1][n][d]) ** 2 for n in range(count) for d in range(width)) / count / width
    hinge, covariance = 0.0, 0.0
    for view in views:
        means = [sum(row[d] for row in view) / count for d in range(width)]
        for i in range(width):
            for j in range(width):
                value = sum((row[i] - means[i]) * (row[j] - means[j]) for row in view) / (count - 1)
                if i == j:
                    hinge += max(0.0, 1 - (value + 1e-4) ** 0.5) / width
                else:
                    covariance += value**2 / width
    return 25 * distance + 25 * hinge / 2 + covariance


def method(config: VICRegConfig = CONFIG) -> VICReg:
    return VICReg(small_encoder(seed=0), config, context=CONTEXT)


def test_collapsed_projections_cost_the_whole_hinge() -> None:
    first = torch.ones(4, 3, requires_grad=True)
    loss = vicreg_loss(first, torch.ones(4, 3))
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(24.75, abs=1e-5)
    assert first.grad is not None
    assert torch.isfinite(first.grad).all()


def test_equal_whitened_views_cost_nothing() -> None:
    # Biased variances would be 0.75, and the hinge above 0.
    assert vicreg_loss(WHITE, WHITE).item() == pytest.approx(0, abs=1e-6)


def test_covariances_are_summed_over_views_and_hinges_averaged() -> None:
    same = torch.stack([WHITE[:, 0], WHITE[:, 0]], dim=1)  # both covariances are 1
    assert vicreg_terms(same, same).covariance.item() == pytest.approx(2 * 2 / 2, abs=1e-5)
    assert vicreg_terms(same, WHITE).covariance.item() == pytest.approx(1, abs=1e-5)
    assert vicreg_terms(WHITE / 2, WHITE).variance.item() == pytest.approx((1 - 0.2501**0.5) / 2, abs=1e-5)


def test_loss_equals_a_naive_loop() -> None:
    first, second = random_views()
    assert vicreg_loss(first, second).item() == pytest.approx(naive_loss(first, second), abs=1e-5)


def test_loss_is_invariant_to_a_common_shift_order_and_swap_but_not_to_length() -> None:
    first, second = random_views()
    loss = vicreg_loss(first, second)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    shift = torch.tensor([3.0, -1, 0, 5, 2])
    for changed in ((first + shift, second + shift), (first[order], second[order]), (second, first)):
        torch.testing.assert_close(vicreg_loss(*changed), loss, rtol=1e-4, atol=1e-4)
    assert (vicreg_loss(2 * first, 2 * second) - loss).abs() > 1  # normalised projections would not see it
    assert (vicreg_loss(first + shift, second) - loss).abs() > 1


def test_each_weight_is_its_terms() -> None:
    first, second = random_views()
    terms = vicreg_terms(first, second)
    loss = vicreg_loss(first, second, invariance_weight=2, variance_weight=3, covariance_weight=5)
    torch.testing.assert_close(loss, 2 * terms.invariance + 3 * terms.variance + 5 * terms.covariance)


def test_both_views_learn() -> None:
    first, second = (view.requires_grad_() for view in random_views())
    torch.autograd.backward(vicreg_loss(first, second))
    for view in (first, second):
        assert view.grad is not None
        assert view.grad.abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loss_of_half_precision_projections_is_fp32_and_near(dtype: torch.dtype) -> None:
    first, second = random_views()
    expected = vicreg_loss(first, second)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = vicreg_loss(first.to(dtype), second.to(dtype))
        exact = vicreg_loss(first, second)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), abs=2e-2)
    torch.testing.assert_close(exact, expected, rtol=0, atol=0)


def test_bad_input_is_refused() -> None:
    first, second = random_views()
    with pytest.raises(ValueError, match=r"\[12, 5\] and \[4, 5\]"):
        vicreg_loss(first, second[:4])
    with pytest.raises(ValueError, match="n >= 2"):
        vicreg_loss(first[:1], second[:1])


def test_the_method_compares_both_views_of_one_pass() -> None:
    vicreg = method(replace(CONFIG, covariance_weight=3.0))
    batch = image_batch(vicreg.views(), count=8, step=0)
    passes = int(part(vicreg, "encoder.backbone.1.num_batches_tracked"))
    first, second = vicreg.projector(vicreg.encoder(torch.cat(batch.views))).chunk(2)
    output = vicreg.loss(batch, START)
    assert int(part(vicreg, "encoder.backbone.1.num_batches_tracked")) == passes + 2
    torch.testing.assert_close(output.loss, vicreg_loss(first, second, covariance_weight=3))
    torch.testing.assert_close(output.projections, torch.cat([first, second]).detach())
    assert set(output.metrics) == {"invariance", "variance", "covariance"}


def test_the_head_is_the_papers() -> None:
    head = method().projector
    assert [type(layer).__name__ for layer in head.layers] == [*["Linear", "BatchNorm1d", "ReLU"] * 2, "Linear"]
    linear = [layer for layer in head.layers if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in linear] == [40, 40, 24]
    assert [layer.bias is None for layer in linear] == [False, False, True]
    assert (VICRegConfig().hidden_width, VICRegConfig().projection_width) == (8192, 8192)


def test_views_are_byols_unless_told() -> None:
    first, second = method().views()
    assert first == view_of(Augmentation.BYOL_FIRST, SIZE_PX)
    assert second == view_of(Augmentation.BYOL_SECOND, SIZE_PX)
    first, second = method(replace(CONFIG, augmentation=Augmentation.GREY)).views()
    assert first == second == view_of(Augmentation.GREY, SIZE_PX)


def test_it_learns_to_know_a_picture_again() -> None:
    vicreg = method()
    untrained = view_retrieval(vicreg.encoder, CROPS)
    output = learn(vicreg, torch.optim.Adam(vicreg.parameters(), lr=0.003), [CROPS] * 2, steps=range(25))
    assert float(output.metrics["variance"]) < 0.7
    assert view_retrieval(vicreg.encoder, CROPS) > untrained + 0.1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("invariance_weight", -1.0),
        ("variance_weight", -1.0),
        ("covariance_weight", -1.0),
        ("projection_width", 0),
        ("hidden_width", 0),
    ],
)
def test_bad_settings_are_refused(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"{name} \({value}\)"):
        VICRegConfig(**settings)

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.heads import ProjectionHead
from tests.training.methods.pictures import SIZE_PX, image_batch, learn, part, small_encoder, view_retrieval
from training.methods.base import ImageBatch, MethodContext, Progress
from training.methods.image.byol import BYOL, BYOLConfig, byol_head
from training.views.presets import Augmentation, view_of
from training.views.spec import ViewSpec

CONTEXT = MethodContext(dataset_size=400, batch_size=64, image_size_px=SIZE_PX)
CONFIG = BYOLConfig(hidden_width=64, projection_width=16)
CROPS = ViewSpec(size_px=SIZE_PX, crop_scale=(0.4, 1.0), jitter_probability=0.0, grey_probability=0.0)
START = Progress(step=0, max_steps=100, epoch=0)


def method(config: BYOLConfig = CONFIG) -> BYOL:
    """Returns a method whose target is not the online branch any more."""
    byol = BYOL(small_encoder(seed=0), config, context=CONTEXT)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in byol.target.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return byol


def batch(step: int = 0) -> ImageBatch:
    return image_batch([CROPS, CROPS], count=32, step=step)


def distance(byol: BYOL, seen: Tensor, other: Tensor) -> Tensor:
    """The paper's loss of one direction, from the method's parts."""
    p = F.normalize(byol.predictor(byol.projector(byol.encoder(seen))), dim=1)
    z = F.normalize(byol.target.module(other), dim=1)
    return (p - z).square().sum(dim=1).mean()


def test_the_symmetric_loss_is_half_of_the_papers_sum() -> None:
    byol = method()
    first, second = batch().views
    there, back = distance(byol, first, second), distance(byol, second, first)
    assert abs(there - back) > 1e-3
    torch.testing.assert_close(byol.loss(batch(), START).loss, (there + back) / 2)


def test_without_symmetry_the_first_view_predicts_the_second() -> None:
    byol = method(replace(CONFIG, symmetric=False))
    first, second = batch().views
    output = byol.loss(batch(), START)
    torch.testing.assert_close(output.loss, distance(byol, first, second))
    assert output.projections.shape == (32, 16)


def test_projections_are_the_view_of_the_online_branch_after_view() -> None:
    byol = method()
    online = [byol.projector(byol.encoder(view)) for view in batch().views]
    torch.testing.assert_close(byol.loss(batch(), START).projections, torch.cat(online).detach())


@pytest.mark.parametrize("symmetric", [True, False])
def test_only_the_online_branch_learns(symmetric: bool) -> None:
    byol = method(replace(CONFIG, symmetric=symmetric))
    torch.autograd.backward(byol.loss(batch(), START).loss)
    assert all(p.grad is None and not p.requires_grad for p in byol.target.parameters())
    for branch in (byol.encoder, byol.projector, byol.predictor):
        for name, parameter in branch.named_parameters():
            assert parameter.grad is not None or not parameter.requires_grad, name
    assert part(byol, "encoder.backbone.0.weight").grad.abs().max() > 1e-5
    assert part(byol, "predictor.layers.3.weight").grad.abs().max() > 1e-5


def test_no_gradient_reaches_the_targets_view() -> None:
    byol = method(replace(CONFIG, symmetric=False))
    images = batch()
    target_view = images.views[1].clone().requires_grad_()
    torch.autograd.backward(byol.loss(ImageBatch((images.views[0], target_view), images.index), START).loss)
    assert target_view.grad is None


def test_the_target_has_no_predictor() -> None:
    byol = method()
    parts = sum(len(list(module.parameters())) for module in (byol.encoder, byol.projector))
    assert len(list(byol.target.parameters())) == parts


def state(byol: BYOL) -> list[Tensor]:
    return [p.detach().clone() for p in byol.target.parameters()]


@pytest.mark.parametrize(("step", "decay"), [(0, 0.9), (50, 0.95), (100, 1.0)])
def test_the_target_follows_after_the_step_ever_more_slowly(step: int, decay: float) -> None:
    byol = method(replace(CONFIG, ema_decay=0.9))
    progress = Progress(step=step, max_steps=100, epoch=0)
    before = state(byol)
    torch.autograd.backward(byol.loss(batch(), progress).loss)
    byol.after_backward(progress)
    torch.testing.assert_close(state(byol), before, atol=0, rtol=0)
    with torch.no_grad():
        for parameter in byol.parameters():
            parameter.add_(0.01 if parameter.requires_grad else 0)  # the optimiser's step, which the average must see
        byol.after_step(progress)
    online = nn.Sequential(byol.encoder, byol.projector).parameters()
    expected = [decay * old + (1 - decay) * new.detach() for old, new in zip(before, online, strict=True)]
    torch.testing.assert_close(state(byol), expected)
    assert float(byol.loss(batch(), progress).metrics["ema_decay"]) == pytest.approx(decay)


def test_the_target_keeps_training_and_its_own_batch_norm_statistics() -> None:
    byol = method(replace(CONFIG, symmetric=False))
    images = batch()
    byol.loss(ImageBatch((images.views[0] + 3, images.views[1]), images.index), START)
    byol.after_step(START)
    own, followed = (part(byol, f"{branch}.backbone.1.running_mean") for branch in ("target.module.0", "encoder"))
    assert byol.target.module.training
    assert own.abs().sum() > 0
    assert (own - followed).abs().max() > 0.01


def test_views_are_the_papers_unless_another_set_is_asked_for() -> None:
    assert method().views() == tuple(
        view_of(name, SIZE_PX) for name in (Augmentation.BYOL_FIRST, Augmentation.BYOL_SECOND)
    )
    grey = method(replace(CONFIG, augmentation=Augmentation.GREY, smallest_crop=0.5)).views()
    assert grey == (view_of(Augmentation.GREY, SIZE_PX, smallest_crop=0.5),) * 2


def kinds(head: ProjectionHead) -> list[str]:
    return [type(layer).__name__ for layer in head.layers]


def test_heads_are_the_papers() -> None:
    byol = BYOL(small_encoder(seed=0), BYOLConfig(), context=CONTEXT)
    for head, inputs in ((byol.projector, 32), (byol.predictor, 256)):
        assert kinds(head) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
        assert [(block.inputs, block.outputs, block.bias) for block in head.blocks] == [
            (inputs, 4096, True),
            (4096, 256, False),
        ]


def test_a_norm_can_close_the_projector_alone() -> None:
    byol = method(replace(CONFIG, output_norm=True))
    assert kinds(byol.projector) == [*kinds(byol_head(4)), "BatchNorm1d"]
    assert kinds(byol.predictor) == kinds(byol_head(4))
    assert [parameter.requires_grad for parameter in byol.projector.layers[4].parameters()] == [True, False]


@pytest.mark.parametrize(
    ("name", "value"), [("ema_decay", 1.01), ("ema_decay", float("nan")), ("hidden_width", 0), ("projection_width", 0)]
)
def test_bad_settings_are_refused(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"{name} \({value}\)"):
        BYOLConfig(**settings)


def test_it_learns_to_know_a_picture_again_and_does_not_collapse() -> None:
    byol = BYOL(small_encoder(seed=0), replace(CONFIG, ema_decay=0.95, projection_width=32), context=CONTEXT)
    untrained = view_retrieval(byol.encoder, CROPS)
    first = byol.loss(batch(), START)
    output = learn(byol, torch.optim.SGD(byol.parameters(), lr=0.05, momentum=0.9), [CROPS] * 2, steps=range(24))
    assert output.loss.item() < 0.3 * first.loss.item()
    spread = F.normalize(output.projections, dim=1).std(dim=0).mean() * output.projections.shape[1] ** 0.5
    assert spread > 0.5
    assert view_retrieval(byol.encoder, CROPS) > untrained + 0.1

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.config import ImageEncoderConfig
from tests.training.methods.pictures import SIZE_PX, image_batch, learn, part, small_encoder, view_retrieval
from training.fit.method_settings import method_config
from training.methods.base import ImageBatch, MethodContext, Progress
from training.methods.image.dino import DINO, DINOConfig, DINOHead, dino_loss
from training.methods.table import METHODS
from training.views.presets import Augmentation, view_of
from training.views.spec import ViewSpec

CONTEXT = MethodContext(dataset_size=400, batch_size=64, image_size_px=SIZE_PX)
CONFIG = DINOConfig(prototype_count=24, hidden_width=32, bottleneck_width=8, small_views=2)
CROPS = ViewSpec(size_px=SIZE_PX, crop_scale=(0.4, 1.0), jitter_probability=0.0, grey_probability=0.0)
START = Progress(step=0, max_steps=100, epoch=0)


def at(step: int) -> Progress:
    """A step of 100 in passes of 10."""
    return Progress(step=step, max_steps=100, epoch=step // 10, step_in_epoch=step % 10, steps_per_epoch=10)


def method(config: DINOConfig = CONFIG) -> DINO:
    """Returns a method whose teacher is not the student any more."""
    dino = DINO(small_encoder(seed=0), config, context=CONTEXT)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in dino.target.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return dino


def batch(dino: DINO, step: int = 0) -> ImageBatch:
    return image_batch(dino.views(), count=16, step=step)


@pytest.mark.parametrize("norm", [False, True])
def test_head_is_the_papers(norm: bool) -> None:
    torch.manual_seed(0)
    head = DINOHead(12, DINOConfig(prototype_count=20, head_norm=norm))
    hidden = ["Linear", "BatchNorm1d", "GELU"] if norm else ["Linear", "GELU"]
    assert [type(layer).__name__ for layer in head.layers] == [*hidden, *hidden, "Linear"]
    linear = [layer for layer in head.layers if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(12, 2048), (2048, 2048), (2048, 256)]
    assert linear[1].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert all(not layer.bias.any() for layer in linear)
    assert head.prototypes.bias is None


def test_the_last_layer_is_weight_normalised() -> None:
    head = DINOHead(12, CONFIG)
    reference = nn.utils.parametrizations.weight_norm(nn.Linear(8, 24, bias=False))
    weight = part(reference, "parametrizations.weight")
    with torch.no_grad():
        weight.original0.fill_(1)
        weight.original1.copy_(head.prototypes.weight)
    rows = F.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    found, expected = head.score(rows), reference(rows)
    torch.testing.assert_close(found, expected)
    upstream = torch.randn(6, 24, generator=torch.Generator().manual_seed(1))
    torch.autograd.backward([(found * upstream).sum(), (expected * upstream).sum()])
    torch.testing.assert_close(head.prototypes.weight.grad, weight.original1.grad)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(head.score(rows), found, atol=0, rtol=0)


def test_loss_is_the_papers_over_large_and_small_views() -> None:
    dino = method()
    images = batch(dino)
    large, small = torch.cat(images.views[:2]), torch.cat(images.views[2:])
    student = torch.cat([dino.head(dino.encoder(large)), dino.head(dino.encoder(small))]).view(4, 16, 24)
    teacher = dino.target.module(large).view(2, 16, 24)
    expected = dino_loss(student, (teacher / 0.04).softmax(dim=-1), temperature=0.1)
    torch.testing.assert_close(dino.loss(images, START).loss, expected)


def test_the_student_sees_all_views_by_size_and_the_teacher_the_large_ones() -> None:
    dino = method()
    seen: dict[str, list[tuple[int, int]]] = {"student": [], "teacher": []}

    def note(who: str) -> Any:
        return lambda _module, inputs: seen[who].append((len(inputs[0]), inputs[0].shape[-1]))

    dino.encoder.register_forward_pre_hook(note("student"))
    part(dino, "target.module.0").register_forward_pre_hook(note("teacher"))
    dino.loss(batch(dino), START)
    assert seen == {"student": [(32, SIZE_PX), (32, 8)], "teacher": [(32, SIZE_PX)]}


def test_projections_are_the_students_of_the_large_views() -> None:
    dino = method()
    images = batch(dino)
    expected = dino.head.project(dino.encoder(torch.cat(images.views[:2]))).detach()
    projections = dino.loss(images, START).projections
    assert not projections.requires_grad
    torch.testing.assert_close(projections, expected)


def test_the_centre_takes_in_a_batch_after_it_was_used() -> None:
    dino = method()
    images = batch(dino)
    mean = dino.target(torch.cat(images.views[:2])).mean(dim=0)
    first = dino.loss(images, START).loss
    torch.testing.assert_close(dino.centre, 0.1 * mean)
    second = dino.loss(images, START).loss
    torch.testing.assert_close(dino.centre, 0.19 * mean)
    assert abs(second - first) > 1e-5
    dino.centre.zero_()
    assert dino.loss(images, START).loss.item() == pytest.approx(first.item(), abs=1e-6)


def test_the_teachers_temperature_rises_over_the_warm_up() -> None:
    dino = method()
    found = [dino.teacher_temperature(at(step)) for step in (0, 5, 10, 99)]
    assert found == pytest.approx([0.04, 0.055, 0.07, 0.07])
    assert dino.loss(batch(dino), at(5)).metrics["teacher_temperature"] == pytest.approx(0.055)
    without = method(replace(CONFIG, teacher_temperature_warmup=0.0))
    assert without.teacher_temperature(at(0)) == 0.07


@pytest.mark.parametrize(("step", "decay"), [(0, 0.9), (50, 0.95), (100, 1.0)])
def test_the_teacher_follows_after_the_step_ever_more_slowly(step: int, decay: float) -> None:
    dino = method(replace(CONFIG, ema_decay=0.9))
    before = [p.clone() for p in dino.target.parameters()]
    torch.autograd.backward(dino.loss(batch(dino), at(step)).loss)
    assert all(torch.equal(*pair) for pair in zip(before, dino.target.parameters(), strict=True))
    assert all(p.grad is None and not p.requires_grad for p in dino.target.parameters())
    with torch.no_grad():
        for parameter in [*dino.encoder.parameters(), *dino.head.parameters()]:
            parameter.add_(0.01)  # the optimiser's step, which the average must see
        dino.after_step(at(step))
    online = nn.Sequential(dino.encoder, dino.head).parameters()
    expected = [decay * old + (1 - decay) * new.detach() for old, new in zip(before, online, strict=True)]
    torch.testing.assert_close(list(dino.target.parameters()), expected)


def test_prototypes_are_held_still_in_the_first_pass() -> None:
    dino = method()
    optimiser = torch.optim.AdamW([p for p in dino.parameters() if p.requires_grad], lr=0.01, weight_decay=0.5)
    for step in range(8, 12):
        before = dino.head.prototypes.weight.detach().clone()
        hidden = part(dino, "head.layers.0.weight").detach().clone()
        optimiser.zero_grad()
        torch.autograd.backward(dino.loss(batch(dino, step), at(step)).loss)
        dino.after_backward(at(step))
        optimiser.step()
        assert torch.equal(dino.head.prototypes.weight, before) == (step < 10)
        assert not torch.equal(part(dino, "head.layers.0.weight"), hidden)


@pytest.mark.parametrize(("epochs", "held"), [(0, [False, False, False]), (0.5, [True, False, False])])
def test_how_long_prototypes_are_held_still_is_a_setting(epochs: float, held: list[bool]) -> None:
    dino = method(replace(CONFIG, frozen_epochs=epochs))
    for step, still in zip((4, 5, 15), held, strict=True):
        torch.autograd.backward(dino.loss(batch(dino), at(step)).loss)
        dino.after_backward(at(step))
        assert (dino.head.prototypes.weight.grad is None) == still


@pytest.mark.parametrize(
    ("rows", "each", "mean"),
    [(torch.zeros(16, 24), 1.0, 1.0), (torch.eye(24)[:1].expand(16, -1), 0.0, 0.0), (torch.eye(24)[:16], 0.0, 0.8724)],
    ids=["uniform", "one prototype", "one each"],
)
def test_entropies_tell_both_collapses(rows: Tensor, each: float, mean: float, monkeypatch: pytest.MonkeyPatch) -> None:
    dino = method()
    images = batch(dino)
    monkeypatch.setattr(dino.target, "forward", lambda _: rows.repeat(2, 1))
    metrics = dino.loss(images, START).metrics
    assert float(metrics["teacher_entropy"]) == pytest.approx(each, abs=1e-4)
    assert float(metrics["mean_teacher_entropy"]) == pytest.approx(mean, abs=1e-4)


def test_views_are_the_papers() -> None:
    first, second, *small = DINO(
        small_encoder(seed=0), replace(CONFIG, small_views=8), context=replace(CONTEXT, image_size_px=224)
    ).views()
    assert (first.crop_scale, second.crop_scale) == ((0.4, 1.0), (0.4, 1.0))
    assert (first.blur_probability, second.blur_probability) == (1.0, 0.1)
    assert (first.solarise_probability, second.solarise_probability) == (0.0, 0.2)
    assert len(small) == 8
    assert {(view.size_px, view.crop_scale, view.blur_probability) for view in small} == {(96, (0.05, 0.4), 0.5)}


def test_another_set_of_changes_is_all_views() -> None:
    views = method(replace(CONFIG, augmentation=Augmentation.STRONG, smallest_crop=0.2)).views()
    large = replace(view_of(Augmentation.STRONG, SIZE_PX), crop_scale=(0.4, 1.0))
    small = replace(view_of(Augmentation.STRONG, 8), crop_scale=(0.2, 0.4))
    assert views == (large, large, small, small)


def test_without_small_views_the_large_ones_keep_their_range() -> None:
    views = method(replace(CONFIG, small_views=0, smallest_crop=0.14)).views()
    assert [view.crop_scale for view in views] == [(0.14, 1.0)] * 2


def test_an_encoder_for_one_size_is_refused_small_views() -> None:
    encoder = small_encoder(seed=0)
    encoder.config = ImageEncoderConfig(architecture="vit-tiny", image_size_px=SIZE_PX)
    with pytest.raises(ValueError, match=r"vit-tiny reads images of 16 px alone, .* small-views=0"):
        DINO(encoder, CONFIG, context=CONTEXT)
    for config in (replace(CONFIG, small_size_px=SIZE_PX), replace(CONFIG, small_views=0)):
        assert {view.size_px for view in DINO(encoder, config, context=CONTEXT).views()} == {SIZE_PX}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prototype_count", 1),
        ("hidden_width", 0),
        ("bottleneck_width", 0),
        ("frozen_epochs", -1),
        ("student_temperature", 0.0),
        ("teacher_temperature", float("nan")),
        ("first_teacher_temperature", -0.04),
        ("teacher_temperature_warmup", 1.5),
        ("centre_decay", -0.1),
        ("ema_decay", 1.01),
    ],
)
def test_bad_settings_are_refused(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"{name} \({value}\)"):
        DINOConfig(**settings)


def test_by_its_recipe_it_learns_to_know_a_picture_again_and_does_not_collapse() -> None:
    entry = METHODS["dino"]
    settings = {**entry.recipe().settings, "prototype_count": 128, "hidden_width": 64, "bottleneck_width": 32}
    dino = DINO(small_encoder(seed=0), method_config(entry, settings), context=CONTEXT)
    untrained = view_retrieval(dino.encoder, CROPS)
    optimiser = torch.optim.AdamW([p for p in dino.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.04)
    output = learn(dino, optimiser, [CROPS] * 2, steps=range(24))
    assert 0.2 < float(output.metrics["teacher_entropy"]) < 0.95
    assert float(output.metrics["mean_teacher_entropy"]) > 0.7
    spread = output.projections.std(dim=0).mean() * output.projections.shape[1] ** 0.5
    assert spread > 0.4
    assert view_retrieval(dino.encoder, CROPS) > untrained + 0.05

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.training.methods.pictures import SIZE_PX, image_batch, learn, part, small_encoder, view_retrieval
from training.methods.base import ImageBatch, MethodContext, Progress
from training.methods.image.swav import SwAV, SwAVConfig, sinkhorn, swav_loss
from training.views.presets import Augmentation, view_of
from training.views.spec import ViewSpec

CONTEXT = MethodContext(dataset_size=400, batch_size=16, image_size_px=SIZE_PX)
CONFIG = SwAVConfig(prototype_count=None, hidden_width=24, projection_width=12, small_views=0)
QUEUED = replace(CONFIG, queue_size=40, queue_epoch=1)
CROPS = ViewSpec(size_px=SIZE_PX, crop_scale=(0.4, 1.0), jitter_probability=0.0, grey_probability=0.0)
SMALL = replace(CROPS, size_px=8)


def epoch(number: int) -> Progress:
    return Progress(step=6 * number, max_steps=100, epoch=number, steps_per_epoch=6)


def method(config: SwAVConfig = CONFIG, context: MethodContext = CONTEXT) -> SwAV:
    return SwAV(small_encoder(seed=0), config, context=context)


def batch(step: int, small_views: int = 0) -> ImageBatch:
    return image_batch([CROPS] * 2 + [SMALL] * small_views, count=16, step=step)


def expected_loss(swav: SwAV, images: ImageBatch, kept: Callable[[int], Tensor] | None = None) -> Tensor:
    """Returns the paper's loss, with embeddings made size by size and balanced beside the kept ones."""
    sizes = [torch.cat(images.views[:2]), *([torch.cat(images.views[2:])] if images.views[2:] else [])]
    embeddings = F.normalize(swav.projector(torch.cat([swav.encoder(pixels) for pixels in sizes])), dim=1)
    prototypes = F.normalize(swav.prototypes.weight.detach(), dim=1)
    scores = torch.stack((embeddings @ prototypes.T).chunk(len(images.views)))
    codes = []
    for view in range(2):
        queue = scores.new_zeros(0, 12) if kept is None else kept(view)
        pool = torch.cat([queue @ prototypes.T, scores[view].detach()])
        codes.append(sinkhorn(pool, epsilon=0.05, iterations=3)[len(queue) :])
    return swav_loss(scores, torch.stack(codes), temperature=0.1)


@pytest.mark.parametrize("small_views", [0, 3])
def test_loss_is_the_papers_over_all_views(small_views: int) -> None:
    swav = method()
    images = batch(0, small_views)
    expected = expected_loss(swav, images)
    output = swav.loss(images, epoch(0))
    torch.testing.assert_close(output.loss, expected, atol=1e-5, rtol=1e-5)
    assert tuple(output.projections.shape) == (32, 12)  # the large views alone
    torch.testing.assert_close(output.projections.norm(dim=1), torch.ones(32))


@pytest.mark.parametrize(("small_views", "passes"), [(0, 1), (3, 2)])
def test_the_encoder_runs_once_per_size(small_views: int, passes: int) -> None:
    swav = method()
    swav.loss(batch(0, small_views), epoch(0))
    assert int(part(swav, "encoder.backbone.1.num_batches_tracked")) == passes
    assert int(part(swav, "projector.layers.1.num_batches_tracked")) == 1


def test_prototypes_are_brought_to_unit_length_before_every_step() -> None:
    swav, longer = method(), method()
    with torch.no_grad():
        longer.prototypes.weight.mul_(torch.linspace(0.1, 9, 16)[:, None])
    outputs = [each.loss(batch(0), epoch(0)).loss for each in (swav, longer)]
    torch.testing.assert_close(outputs[1], outputs[0])
    for each in (swav, longer):
        torch.testing.assert_close(each.prototypes.weight.norm(dim=1), torch.ones(16))


def test_the_prototypes_gradient_does_not_go_through_their_length() -> None:
    swav = method()
    torch.autograd.backward(swav.loss(batch(0), epoch(1)).loss)
    weight = swav.prototypes.weight
    assert weight.grad is not None
    # Through a normalisation every row's gradient would stand at a right angle to the row.
    assert (weight.grad * weight).sum(dim=1).abs().max() > 1e-3


def test_codes_are_constants() -> None:
    swav = method()
    output = swav.loss(batch(0), epoch(1))
    torch.autograd.backward(output.loss)
    found = part(swav, "projector.layers.3.weight").grad
    again = method()
    torch.autograd.backward(expected_loss(again, batch(0)))
    torch.testing.assert_close(found, part(again, "projector.layers.3.weight").grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("frozen_epochs", "steps"), [(0, 0), (0.5, 3), (1.0, 6), (2.0, 12)])
def test_prototypes_are_held_still_at_first(frozen_epochs: float, steps: int) -> None:
    swav = method(replace(CONFIG, frozen_epochs=frozen_epochs))
    held = []
    for step in range(14):
        progress = Progress(step=step, max_steps=100, epoch=step // 6, step_in_epoch=step % 6, steps_per_epoch=6)
        swav.prototypes.weight.grad = torch.ones_like(swav.prototypes.weight)
        swav.after_backward(progress)
        held.append(swav.prototypes.weight.grad is None)
    assert held == [True] * steps + [False] * (14 - steps)


def test_a_held_prototype_neither_moves_nor_decays() -> None:
    swav = method()
    optimiser = torch.optim.AdamW(swav.parameters(), lr=0.1, weight_decay=0.5)
    swav.loss(batch(0), epoch(0))
    before = swav.prototypes.weight.detach().clone()
    learn(swav, optimiser, [CROPS] * 2, steps=range(6))
    torch.testing.assert_close(swav.prototypes.weight, before)
    learn(swav, optimiser, [CROPS] * 2, steps=range(6, 8))
    assert (swav.prototypes.weight - before).abs().max() > 0.01


def test_the_queue_is_filled_from_its_epoch_and_used_once_full() -> None:
    swav = method(QUEUED)
    swav.loss(batch(0), epoch(0))
    assert [part(swav, f"queues.{view}").filled for view in range(2)] == [0, 0]
    for step in (1, 2, 3):  # 16, 32 and, wrapped, 40 of 40
        alone = expected_loss(swav, batch(step))
        torch.testing.assert_close(swav.loss(batch(step), epoch(1)).loss, alone, atol=1e-5, rtol=1e-5)
    queues = [part(swav, f"queues.{view}").vectors.clone() for view in range(2)]
    assert (queues[0] - queues[1]).abs().max() > 0.1  # one per view
    with torch.no_grad():  # prototypes move; kept scores would not follow
        swav.prototypes.weight.copy_(swav.prototypes.weight.roll(3, dims=1))
    expected = expected_loss(swav, batch(4), lambda view: queues[view])
    alone = expected_loss(swav, batch(4))
    loss = swav.loss(batch(4), epoch(1)).loss
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    assert (loss - alone).abs() > 1e-4


def test_a_full_queue_survives_a_restore() -> None:
    swav = method(QUEUED)
    for step in range(4):
        swav.loss(batch(step), epoch(1))
    restored = method(QUEUED)
    restored.load_state_dict(swav.state_dict())
    assert restored.loss(batch(5), epoch(1)).loss.item() == swav.loss(batch(5), epoch(1)).loss.item()


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("config", [CONFIG, replace(QUEUED, queue_size=32)])
def test_codes_are_balanced_over_all_ranks_rows(
    place: int, config: SwAVConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = F.normalize(torch.randn(4, 16, 12, generator=torch.Generator().manual_seed(0)), dim=2)
    index = torch.arange(16)
    swav = method(config)
    whole = [swav._codes(each, 0, index, epoch(1)) for each in rows]

    split = method(config)
    current = torch.zeros(0)
    monkeypatch.setattr("training.methods.image.swav.gather", lambda own: current if own.ndim == 2 else index)
    monkeypatch.setattr("training.methods.image.swav.rank", lambda: place)
    for each, expected in zip(rows, whole, strict=True):
        current = each
        found = split._codes(each.chunk(2)[place], 0, index.chunk(2)[place], epoch(1))
        torch.testing.assert_close(found, expected.chunk(2)[place])


def test_a_batch_in_half_precision_is_balanced_in_full() -> None:
    swav = method(replace(CONFIG, epsilon=0.01))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = swav.loss(batch(0), epoch(0))
    assert output.loss.dtype == output.projections.dtype == torch.float32
    assert torch.isfinite(output.loss)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = swav._scores(output.projections)
    torch.testing.assert_close(scores, output.projections @ swav.prototypes.weight.T, rtol=0, atol=0)


def test_metrics_tell_of_the_closest_prototypes() -> None:
    swav = method()
    images = batch(0)
    same = ImageBatch((images.views[0], images.views[0]), images.index)
    metrics = swav.loss(same, epoch(0)).metrics
    closest = (swav.loss(same, epoch(0)).projections @ swav.prototypes.weight.detach().T).argmax(dim=1)
    assert float(metrics["agreement"]) == 1
    assert float(metrics["used"]) == pytest.approx(len(set(closest.tolist())) / 16)


def test_views_are_the_papers() -> None:
    views = method(replace(CONFIG, small_views=6), replace(CONTEXT, image_size_px=224)).views()
    assert [view.size_px for view in views] == [224] * 2 + [96] * 6
    assert [view.crop_scale for view in views] == [(0.14, 1.0)] * 2 + [(0.05, 0.14)] * 6
    assert views[0].brightness == view_of(Augmentation.SIMCLR_224, 224).brightness
    assert len(method().views()) == 2


def test_prototypes_follow_the_batch_and_the_queue_where_not_given() -> None:
    assert method().prototypes.out_features == 16
    assert method(QUEUED).prototypes.out_features == 56
    assert method(context=replace(CONTEXT, batch_size=4096)).prototypes.out_features == 512
    assert method(replace(CONFIG, prototype_count=7)).prototypes.out_features == 7


def test_more_prototypes_than_images_to_balance_are_refused() -> None:
    with pytest.raises(ValueError, match=r"prototype_count \(3000\) must be <= 16"):
        method(SwAVConfig())
    with pytest.raises(ValueError, match=r"prototype_count \(57\) must be <= 56"):
        method(replace(QUEUED, prototype_count=57))
    with pytest.raises(ValueError, match=r"queue_size \(8\) must be 0, or at least the batch of 16"):
        method(replace(CONFIG, queue_size=8))


def test_it_learns_to_know_a_picture_again() -> None:
    swav = method(replace(CONFIG, prototype_count=32), replace(CONTEXT, batch_size=64))
    untrained = view_retrieval(swav.encoder, CROPS)
    output = learn(swav, torch.optim.Adam(swav.parameters(), lr=0.005), [CROPS] * 2, steps=range(30))
    assert output.loss.item() < 0.6 * torch.tensor(32.0).log().item()
    assert float(output.metrics["agreement"]) > 0.5
    assert view_retrieval(swav.encoder, CROPS) > untrained + 0.1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0.0),
        ("epsilon", 0.0),
        ("sinkhorn_iterations", 0),
        ("prototype_count", 1),
        ("frozen_epochs", -0.5),
        ("queue_size", -1),
        ("queue_epoch", -1),
        ("projection_width", 0),
        ("hidden_width", 0),
        ("small_views", -1),
    ],
)
def test_bad_settings_are_refused(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"{name} \({value}\)"):
        SwAVConfig(**settings)

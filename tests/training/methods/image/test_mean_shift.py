from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.training.methods.pictures import SIZE_PX, image_batch, learn, part, small_encoder, view_retrieval
from training.losses.neighbours import Neighbours, nearest_neighbours
from training.methods.base import ImageBatch, MethodContext, Progress
from training.methods.image.mean_shift import MeanShift, MeanShiftConfig, mean_shift_loss
from training.views.presets import Augmentation, view_of
from training.views.spec import ViewSpec

CONTEXT = MethodContext(dataset_size=400, batch_size=64, image_size_px=SIZE_PX)
CONFIG = MeanShiftConfig(bank_size=96, neighbour_count=5)
CROPS = ViewSpec(size_px=SIZE_PX, crop_scale=(0.4, 1.0), jitter_probability=0.0, grey_probability=0.0)
START = Progress(step=0, max_steps=100, epoch=0)


def method(config: MeanShiftConfig = CONFIG) -> MeanShift:
    return MeanShift(small_encoder(seed=0), config, context=CONTEXT)


def batch(step: int, count: int = 32) -> ImageBatch:
    return image_batch([CROPS, CROPS], count=count, step=step)


def unit(rows: Tensor) -> Tensor:
    return F.normalize(rows.detach(), dim=1)


def test_loss_is_the_papers_with_the_targets_in_the_bank_before_the_search() -> None:
    msf = method()
    msf.loss(batch(0), START)
    images = batch(1)
    v = unit(msf.predictor(msf.projector(msf.encoder(images.views[0]))))
    u = unit(msf.target.module(images.views[1]))
    expected = mean_shift_loss(v, u, torch.cat([msf.bank.valid, u]), neighbour_count=5)
    torch.testing.assert_close(msf.loss(images, START).loss, expected, atol=1e-5, rtol=1e-5)


def test_the_nearest_neighbour_is_the_row_just_written(monkeypatch: pytest.MonkeyPatch) -> None:
    # Enqueueing after the search would find an older row, or none.
    found: list[Neighbours] = []

    def watched(queries: Tensor, bank: Tensor, *, count: int) -> Neighbours:
        found.append(nearest_neighbours(queries, bank, count=count))
        return found[-1]

    monkeypatch.setattr("training.methods.image.mean_shift.nearest_neighbours", watched)
    msf = method()
    for step in range(4):
        position = msf.bank.position
        msf.loss(batch(step), START)
        assert found[-1].slots[:, 0].tolist() == [(position + i) % 96 for i in range(32)]


def test_one_neighbour_is_byol_without_symmetry() -> None:
    msf = method(replace(CONFIG, neighbour_count=1))
    msf.loss(batch(0), START)
    images = batch(1)
    v = unit(msf.predictor(msf.projector(msf.encoder(images.views[0]))))
    u = unit(msf.target.module(images.views[1]))
    byol = (2 - 2 * (v * u).sum(dim=1)).mean()
    torch.testing.assert_close(msf.loss(images, START).loss, byol, atol=1e-5, rtol=1e-5)


def test_the_average_moves_between_prediction_and_target() -> None:
    msf = method(replace(CONFIG, ema_decay=0.5))
    with torch.no_grad():
        for parameter in msf.encoder.parameters():
            parameter.mul_(1.5)
    images = batch(0)
    followed = method(replace(CONFIG, ema_decay=0.5))
    followed.load_state_dict(msf.state_dict())
    followed.target.update(nn.Sequential(followed.encoder, followed.projector), decay=0.5)
    expected = unit(followed.target.module(images.views[1]))
    msf.loss(images, START)
    torch.testing.assert_close(msf.bank.valid, expected)


def test_only_the_online_branch_learns() -> None:
    msf = method()
    images = batch(0)
    target_view = images.views[1].clone().requires_grad_()
    torch.autograd.backward(msf.loss(ImageBatch((images.views[0], target_view), images.index), START).loss)
    assert target_view.grad is None
    assert all(p.grad is None and not p.requires_grad for p in msf.target.parameters())
    branches = (msf.encoder, msf.projector, msf.predictor)
    for branch in branches:
        for name, parameter in branch.named_parameters():
            assert parameter.grad is not None, name
    assert part(msf, "encoder.backbone.0.weight").grad.abs().max() > 1e-5
    [group] = msf.param_groups()
    assert len(group["params"]) == sum(len(list(branch.parameters())) for branch in branches)


def test_the_target_keeps_its_own_batch_norm_statistics() -> None:
    msf = method()
    images = batch(0)
    msf.loss(ImageBatch((images.views[0] + 3, images.views[1]), images.index), START)
    own, followed = (part(msf, f"{branch}.backbone.1.running_mean") for branch in ("target.module.0", "encoder"))
    assert (own - followed).abs().max() > 0.01


def test_online_view_is_strong_and_target_view_weak_unless_told() -> None:
    strong, weak = method().views()
    assert weak == view_of(Augmentation.WEAK, SIZE_PX)
    assert strong == view_of(Augmentation.STRONG, SIZE_PX)
    same = method(replace(CONFIG, weak_target=False, strength=0.5)).views()
    assert same[0] == same[1] == view_of(Augmentation.STRONG, SIZE_PX, strength=0.5)


def test_neighbours_grow_over_the_warm_up() -> None:
    msf = method(replace(CONFIG, neighbour_warmup=0.5))
    counts = [msf.neighbour_count(Progress(step=step, max_steps=100, epoch=0)) for step in (0, 12, 13, 49, 50, 99)]
    assert counts == [1, 1, 2, 4, 5, 5]
    assert method().neighbour_count(START) == 5


def test_a_bank_of_fewer_rows_than_neighbours_is_searched_whole() -> None:
    msf = method(replace(CONFIG, neighbour_count=60))
    images = batch(0)
    v = unit(msf.predictor(msf.projector(msf.encoder(images.views[0]))))
    loss = msf.loss(images, START).loss
    torch.testing.assert_close(loss, (2 - 2 * v @ msf.bank.valid.T).mean(), atol=1e-5, rtol=1e-5)


def test_self_fraction_tells_of_old_copies() -> None:
    msf = method(replace(CONFIG, neighbour_count=4))
    images = batch(0)
    assert float(msf.loss(images, START).metrics["self_fraction"]) == 0
    again = msf.loss(images, START)  # each image now meets its row of the step before
    assert float(again.metrics["self_fraction"]) == pytest.approx(1 / 3, abs=0.1)


def test_bank_follows_the_data_where_not_given() -> None:
    small = MeanShiftConfig(bank_size=None)
    assert method(small).bank.size == 200
    large = replace(CONTEXT, dataset_size=60_000)
    assert MeanShift(small_encoder(seed=0), small, context=large).bank.size == 8192


def test_a_bank_too_large_for_the_data_is_refused() -> None:
    with pytest.raises(ValueError, match=r"bank_size \(1024000\) must be in \[64, 335\]"):
        method(MeanShiftConfig())


@pytest.mark.parametrize(
    ("name", "value"), [("neighbour_count", 0), ("bank_size", 3), ("ema_decay", 1.01), ("neighbour_warmup", 2.0)]
)
def test_bad_settings_are_refused(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"{name} \({value}\)"):
        MeanShiftConfig(**settings)


def test_it_learns_to_know_a_picture_again_and_does_not_collapse() -> None:
    msf = method(MeanShiftConfig(bank_size=256, ema_decay=0.95))
    untrained = view_retrieval(msf.encoder, CROPS)
    optimiser = torch.optim.SGD(msf.parameters(), lr=0.05, momentum=0.9)
    first = msf.loss(batch(0), START)
    output = learn(msf, optimiser, [CROPS] * 2, steps=range(50))
    assert output.loss.item() < 0.3 * first.loss.item()
    spread = F.normalize(output.projections, dim=1).std(dim=0).mean() * output.projections.shape[1] ** 0.5
    assert spread > 0.5
    assert view_retrieval(msf.encoder, CROPS) > untrained + 0.1

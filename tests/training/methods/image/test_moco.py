from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.training.methods.pictures import SIZE_PX, image_batch, learn, part, small_encoder, view_retrieval
from training.methods.base import ImageBatch, MethodContext, Progress
from training.methods.image.moco import MoCo, MoCoConfig, moco_loss, moco_projector
from training.methods.image.simclr import nt_xent_loss
from training.views.presets import Augmentation, view_of
from training.views.spec import ViewSpec

CONTEXT = MethodContext(dataset_size=400, batch_size=64, image_size_px=SIZE_PX)
CONFIG = MoCoConfig(queue_size=80, temperature=0.2, ema_decay=0.9, projection_width=16, bn_splits=4)
CROPS = ViewSpec(size_px=SIZE_PX, crop_scale=(0.4, 1.0), jitter_probability=0.0, grey_probability=0.0)
START = Progress(step=0, max_steps=100, epoch=0)


def method(config: MoCoConfig = CONFIG, context: MethodContext = CONTEXT) -> MoCo:
    return MoCo(small_encoder(seed=0), config, context=context)


def batch(step: int, count: int = 32) -> ImageBatch:
    return image_batch([CROPS, CROPS], count=count, step=step)


def unit(rows: Tensor) -> Tensor:
    return F.normalize(rows.detach(), dim=1)


def queries_of(moco: MoCo, view: Tensor) -> Tensor:
    return unit(moco.projector(moco.encoder(view)))


def test_loss_of_the_worked_tensors() -> None:
    queries, keys = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])
    queue = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    assert moco_loss(queries, keys, queue, temperature=0.2).item() == pytest.approx(0.048907, abs=1e-5)


def test_equal_cosines_give_the_log_of_the_queue_and_the_key() -> None:
    collapsed = F.normalize(torch.ones(4, 3), dim=1)
    loss = moco_loss(collapsed, collapsed, collapsed[:1].expand(4096, 3), temperature=0.07)
    assert loss.item() == pytest.approx(8.318010, abs=1e-5)


def test_keys_and_queue_are_constants_to_the_loss() -> None:
    rows = [F.normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(k)), dim=1) for k in range(3)]
    queries, keys, queue = (row.requires_grad_() for row in rows)
    torch.autograd.backward(moco_loss(queries, keys, queue, temperature=0.2))
    assert queries.grad is not None
    assert keys.grad is None
    assert queue.grad is None


def test_it_is_not_nt_xent() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (F.normalize(torch.randn(6, 4, generator=generator), dim=1) for _ in range(2))
    ours = [
        torch.stack([moco_loss(q[i : i + 1], k[i : i + 1], k[torch.arange(6) != i], temperature=0.2) for i in range(6)])
        for q, k in ((first, second), (second, first))
    ]
    # Without the negatives within a view it is below.
    assert torch.cat(ours).mean() < nt_xent_loss(first, second, temperature=0.2) - 0.1


def test_loss_is_the_papers_with_the_queue_of_earlier_steps() -> None:
    moco = method()
    moco.loss(batch(0), START)
    images, queue = batch(1), moco.queue.valid.clone()
    q = queries_of(moco, images.views[0])
    output = moco.loss(images, START)
    k = moco.queue.valid[32:64]
    torch.testing.assert_close(output.loss, moco_loss(q, k, queue, temperature=0.2), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.projections, q)
    # Enqueued first, each positive would be a negative too.
    assert (output.loss - moco_loss(q, k, torch.cat([queue, k]), temperature=0.2)).abs() > 0.1


def test_the_first_step_has_no_negatives_and_teaches_nothing() -> None:
    moco = method()
    loss = moco.loss(batch(0), START).loss
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert not any(p.grad.any() for p in moco.parameters() if p.grad is not None)
    assert moco.queue.filled == 32


def test_a_collapsed_encoder_gives_the_log_of_the_full_queue_and_the_key() -> None:
    moco = method()
    with torch.no_grad():
        for branch in ("projector", "key_branch.module.1"):
            part(moco, f"{branch}.layers.2.weight").zero_()
            part(moco, f"{branch}.layers.2.bias").fill_(1)
    losses = [moco.loss(batch(step), START).loss.item() for step in range(5)]
    assert losses == pytest.approx([math.log(1 + rows) for rows in (0, 32, 64, 80, 80)], abs=1e-5)
    assert float(moco.loss(batch(5), START).metrics["accuracy"]) == 0


def test_the_ring_wraps_and_the_oldest_keys_go() -> None:
    moco = method()
    seen = []
    for step in range(4):
        images = batch(step)
        moco.loss(images, START)
        seen.append(images.index)
    # 80 rows: the third batch's last 16 went to the start, the fourth's 32 after them.
    written = torch.cat(seen)
    assert moco.queue.position == 48
    assert moco.queue.index.tolist() == [*written[80:128].tolist(), *written[48:80].tolist()]


def test_the_average_moves_between_query_and_key_exactly() -> None:
    moco = method()
    with torch.no_grad():
        for parameter in moco.encoder.parameters():
            parameter.mul_(1.5)
    before = [p.clone() for p in moco.key_branch.parameters()]
    online = [p.detach().clone() for branch in (moco.encoder, moco.projector) for p in branch.parameters()]
    images = batch(0)
    moco.loss(images, START)
    for key, old, new in zip(moco.key_branch.parameters(), before, online, strict=True):
        torch.testing.assert_close(key, 0.9 * old + 0.1 * new, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(moco.keys_of(images.views[1]), moco.queue.valid)


def test_only_the_query_branch_learns() -> None:
    moco = method()
    moco.loss(batch(0), START)
    images = batch(1)
    key_view = images.views[1].clone().requires_grad_()
    torch.autograd.backward(moco.loss(ImageBatch((images.views[0], key_view), images.index), START).loss)
    assert key_view.grad is None
    assert all(p.grad is None and not p.requires_grad for p in moco.key_branch.parameters())
    learned = [p for branch in (moco.encoder, moco.projector) for p in branch.parameters()]
    assert all(p.grad is not None for p in learned)
    assert part(moco, "encoder.backbone.0.weight").grad.abs().max() > 1e-5
    [group] = moco.param_groups()
    assert {id(p) for p in group["params"]} == {id(p) for p in learned}


def test_keys_are_normalised_in_groups() -> None:
    moco, view = method(), batch(0).views[1]
    alone = torch.cat([unit(moco.key_branch.module(group)) for group in view.chunk(4)])
    torch.testing.assert_close(moco.keys_of(view), alone)
    changed = torch.cat([view[:8], view[8:] + 1])
    torch.testing.assert_close(moco.keys_of(changed)[:8], alone[:8])
    assert (method(replace(CONFIG, bn_splits=1)).keys_of(view) - alone).abs().max() > 1e-3


def test_another_order_of_the_batch_would_not_hide_its_statistics() -> None:
    # Why shuffling on one device is no substitute for the groups.
    whole, view = method(replace(CONFIG, bn_splits=1)), batch(0).views[1]
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(whole.keys_of(view[order]), whole.keys_of(view)[order], atol=1e-5, rtol=1e-4)
    split = method()
    assert (split.keys_of(view[order]) - split.keys_of(view)[order]).abs().max() > 1e-3


@pytest.mark.parametrize("count", [1, 3, 7, 30])
def test_any_batch_falls_into_groups_of_two_or_more(count: int) -> None:
    moco = method(replace(CONFIG, bn_splits=8))
    sizes: list[int] = []
    moco.key_branch.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    assert moco.keys_of(torch.randn(count, 3, SIZE_PX, SIZE_PX)).shape == (count, 16)
    assert sum(sizes) == count
    assert min(sizes) >= min(count, 2)
    assert max(sizes) - min(sizes) <= 1


def test_symmetric_loss_is_the_mean_of_both_directions_and_enqueues_both_keys() -> None:
    norm_free = method(replace(CONFIG, symmetric=True, queue_size=128))
    for name in ("encoder.backbone", "key_branch.module.0.backbone"):
        for place in (1, 4, 7):
            part(norm_free, name)[place] = nn.Identity()
    norm_free.loss(batch(0), START)
    images, queue = batch(1), norm_free.queue.valid.clone()
    q = [queries_of(norm_free, view) for view in images.views]
    loss = norm_free.loss(images, START).loss
    k_second, k_first = norm_free.queue.valid[64:].chunk(2)
    directions = [
        moco_loss(query, key, queue, temperature=0.2) for query, key in zip(q, (k_second, k_first), strict=True)
    ]
    torch.testing.assert_close(loss, torch.stack(directions).mean(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(k_first, norm_free.keys_of(images.views[0]))
    torch.testing.assert_close(norm_free.queue.valid_index[64:], images.index.repeat(2))


def test_queue_follows_the_data_where_not_given() -> None:
    own = MoCoConfig(queue_size=None)
    assert method(own).queue.size == 200
    assert method(own, replace(CONTEXT, dataset_size=60_000)).queue.size == 4096
    few = replace(CONTEXT, dataset_size=250)
    assert method(own, few).queue.size == 125
    assert method(replace(own, symmetric=True), few).queue.size == 128


def test_a_queue_that_does_not_fit_the_data_is_refused() -> None:
    with pytest.raises(ValueError, match=r"bank_size \(65536\) must be in \[64, 335\]"):
        method(MoCoConfig())
    with pytest.raises(ValueError, match=r"queue_size \(100\) must be >= 128"):
        method(MoCoConfig(queue_size=100, symmetric=True))


def test_settings_are_the_papers() -> None:
    config = MoCoConfig()
    assert (config.queue_size, config.temperature, config.ema_decay) == (65_536, 0.2, 0.999)
    head = moco_projector(2048)
    assert [(b.inputs, b.outputs, b.relu, b.batch_norm) for b in head.blocks] == [
        (2048, 2048, True, False),
        (2048, 128, False, False),
    ]
    assert moco_projector(64, hidden=10, outputs=7).blocks[0].outputs == 10
    first, second = method(MoCoConfig(queue_size=80)).views()
    assert first == second == view_of(Augmentation.STRONG, SIZE_PX)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("queue_size", 0),
        ("temperature", 0.0),
        ("ema_decay", 1.01),
        ("projection_width", 0),
        ("hidden_width", 0),
        ("bn_splits", 0),
    ],
)
def test_bad_settings_are_refused(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"{name} \({value}\)"):
        MoCoConfig(**settings)


def test_it_learns_to_know_a_picture_again() -> None:
    moco = method(MoCoConfig(queue_size=256, ema_decay=0.95, temperature=0.1))
    untrained = view_retrieval(moco.encoder, CROPS)
    output = learn(moco, torch.optim.Adam(moco.parameters(), lr=0.003), [CROPS] * 2, steps=range(40))
    assert output.loss.item() < math.log(257) - 1
    assert view_retrieval(moco.encoder, CROPS) > untrained + 0.1

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.training.methods.pictures import SIZE_PX, image_batch, learn, part, small_encoder, view_retrieval
from training.methods.base import ImageBatch, MethodContext, Progress
from training.methods.image.nnclr import NNCLR, NNCLRConfig, nnclr_loss, nnclr_predictor, nnclr_projector
from training.methods.image.simclr import nt_xent_loss
from training.views.presets import Augmentation, view_of
from training.views.spec import ViewSpec

CONTEXT = MethodContext(dataset_size=400, batch_size=64, image_size_px=SIZE_PX)
CONFIG = NNCLRConfig(queue_size=80, projection_width=16, hidden_width=32, predictor_width=32)
CROPS = ViewSpec(size_px=SIZE_PX, crop_scale=(0.4, 1.0), jitter_probability=0.0, grey_probability=0.0)
START = Progress(step=0, max_steps=100, epoch=0)


def method(config: NNCLRConfig = CONFIG, context: MethodContext = CONTEXT) -> NNCLR:
    return NNCLR(small_encoder(seed=0), config, context=context)


def batch(step: int, count: int = 32) -> ImageBatch:
    return image_batch([CROPS, CROPS], count=count, step=step)


def unit(rows: Tensor) -> Tensor:
    return F.normalize(rows.detach(), dim=1)


def unit_noise(count: int, *, seed: int) -> Tensor:
    return F.normalize(torch.randn(count, 5, generator=torch.Generator().manual_seed(seed)), dim=1)


def projected(nnclr: NNCLR, images: ImageBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns z of both views and p of both."""
    projections = nnclr.projector(nnclr.encoder(torch.cat(images.views)))
    z, p = unit(projections).chunk(2), unit(nnclr.predictor(projections)).chunk(2)
    return z[0], z[1], p[0], p[1]


def both_ways(neighbours: tuple[Tensor, Tensor], predictions: tuple[Tensor, Tensor]) -> Tensor:
    directions = [nnclr_loss(nn, p, temperature=0.1) for nn, p in zip(neighbours, reversed(predictions), strict=True)]
    return torch.stack(directions).mean()


def test_loss_equals_a_naive_loop() -> None:
    neighbours, predictions, total = unit_noise(6, seed=1), unit_noise(6, seed=2), 0.0
    for place, neighbour in enumerate(neighbours):
        exponentials = [math.exp(float(neighbour @ p) / 0.1) for p in predictions]
        total -= math.log(exponentials[place] / sum(exponentials)) / 6
    assert nnclr_loss(neighbours, predictions, temperature=0.1).item() == pytest.approx(total, abs=1e-5)


def test_loss_of_worked_tensors() -> None:
    # Each row's scores are (2, 0): log(1 + exp(-2)).
    axes = torch.eye(2)
    assert nnclr_loss(axes, axes, temperature=0.5).item() == pytest.approx(0.126928, abs=1e-5)


def test_equal_cosines_give_the_log_of_the_batch() -> None:
    same = F.normalize(torch.ones(6, 5), dim=1)
    assert nnclr_loss(same, same, temperature=0.1).item() == pytest.approx(math.log(6), abs=1e-5)


def test_own_projections_for_neighbours_give_infonce_between_views_and_not_nt_xent() -> None:
    first, second = unit_noise(6, seed=1), unit_noise(6, seed=2)
    across = F.cross_entropy(first @ second.T / 0.1, torch.arange(6))
    torch.testing.assert_close(nnclr_loss(first, second, temperature=0.1), across)
    assert across < nt_xent_loss(first, second, temperature=0.1) - 0.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loss_of_half_precision_rows_is_fp32_and_near(dtype: torch.dtype) -> None:
    rows = unit_noise(8, seed=1), unit_noise(8, seed=2)
    loss = nnclr_loss(rows[0].to(dtype), rows[1].to(dtype), temperature=0.1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, nnclr_loss(*rows, temperature=0.1), atol=2e-2, rtol=0)


def test_loss_is_the_papers_with_the_queue_of_earlier_steps() -> None:
    nnclr = method()
    nnclr.loss(batch(0), START)
    images, queue = batch(1), nnclr.queue.valid.clone()
    z1, z2, p1, p2 = projected(nnclr, images)
    neighbours = queue[(z1 @ queue.T).argmax(dim=1)], queue[(z2 @ queue.T).argmax(dim=1)]
    output = nnclr.loss(images, START)
    torch.testing.assert_close(output.loss, both_ways(neighbours, (p1, p2)), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.projections, torch.cat([z1, z2]))
    # Enqueued first, each view would find itself or its image's other view.
    assert (output.loss - both_ways((z1, z1), (p1, p2))).abs() > 0.01
    # The predictions stand against the neighbours of the other view.
    assert (output.loss - both_ways(neighbours, (p2, p1))).abs() > 1e-3


def test_the_first_views_projections_enter_the_queue() -> None:
    nnclr, images = method(), batch(0)
    z1, *_ = projected(nnclr, images)
    nnclr.loss(images, START)
    torch.testing.assert_close(nnclr.queue.valid, z1)
    assert nnclr.queue.valid_index.tolist() == images.index.tolist()


def test_a_queue_of_the_batchs_own_projections_gives_infonce_between_views() -> None:
    nnclr, images = method(), batch(0)
    z1, z2, p1, p2 = projected(nnclr, images)
    expected = both_ways((z1, z2), (p1, p2))
    torch.testing.assert_close(nnclr.loss(images, START).loss, expected, atol=1e-5, rtol=1e-5)  # no queue yet

    filled = method()
    filled.queue.enqueue(torch.cat([z1, z2]), images.index.repeat(2))
    torch.testing.assert_close(filled.loss(images, START).loss, expected, atol=1e-5, rtol=1e-5)


def test_the_ring_wraps_when_the_queue_is_full() -> None:
    nnclr = method()
    seen = [batch(step) for step in range(4)]
    for images in seen:
        assert torch.isfinite(nnclr.loss(images, START).loss)
    written = torch.cat([images.index for images in seen])
    assert nnclr.queue.index.tolist() == [*written[80:128].tolist(), *written[48:80].tolist()]


def test_encoder_projector_and_predictor_learn_through_the_predictions_alone() -> None:
    nnclr = method()
    nnclr.loss(batch(0), START)
    torch.autograd.backward(nnclr.loss(batch(1), START).loss)
    for name, parameter in nnclr.named_parameters():
        assert parameter.grad is not None, name
    assert part(nnclr, "encoder.backbone.0.weight").grad.abs().max() > 1e-5
    neighbours, predictions = unit_noise(4, seed=1).requires_grad_(), unit_noise(4, seed=2).requires_grad_()
    torch.autograd.backward(nnclr_loss(neighbours, predictions, temperature=0.1))
    assert neighbours.grad is None
    assert predictions.grad is not None


def test_in_the_first_step_projections_are_constants_where_they_are_neighbours() -> None:
    nnclr, images = method(), batch(0)
    weight = part(nnclr, "encoder.backbone.0.weight")
    projections = nnclr.projector(nnclr.encoder(torch.cat(images.views)))
    z1, z2 = unit(projections).chunk(2)
    p1, p2 = F.normalize(nnclr.predictor(projections), dim=1).chunk(2)
    [expected] = torch.autograd.grad(both_ways((z1, z2), (p1, p2)), weight)
    [found] = torch.autograd.grad(nnclr.loss(images, START).loss, weight)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_self_fraction_tells_of_old_copies() -> None:
    nnclr, images = method(), batch(0)
    assert float(nnclr.loss(images, START).metrics["self_fraction"]) == 0
    assert float(nnclr.loss(images, START).metrics["self_fraction"]) > 0.5


def test_queue_follows_the_data_where_not_given() -> None:
    own = replace(CONFIG, queue_size=None)
    assert method(own).queue.size == 200
    assert method(own, replace(CONTEXT, dataset_size=60_000)).queue.size == 8192
    assert method(own, replace(CONTEXT, dataset_size=130, batch_size=64)).queue.size == 65


def test_a_queue_too_large_for_the_data_is_refused() -> None:
    with pytest.raises(ValueError, match=r"bank_size \(98304\) must be in \[64, 335\]"):
        method(NNCLRConfig())


def test_heads_and_views_are_the_papers() -> None:
    head, predictor = nnclr_projector(2048), nnclr_predictor(256)
    assert [(b.inputs, b.outputs, b.relu, b.batch_norm) for b in head.blocks] == [
        (2048, 2048, True, True),
        (2048, 2048, True, True),
        (2048, 256, False, True),
    ]
    assert [(b.inputs, b.outputs, b.relu, b.batch_norm) for b in predictor.blocks] == [
        (256, 4096, True, True),
        (4096, 256, False, False),
    ]
    first, second = method().views()
    assert first == view_of(Augmentation.BYOL_FIRST, SIZE_PX)
    assert second == view_of(Augmentation.BYOL_SECOND, SIZE_PX)


@pytest.mark.parametrize(
    ("name", "value"),
    [("queue_size", 0), ("temperature", 0.0), ("projection_width", 0), ("hidden_width", 0), ("predictor_width", 0)],
)
def test_bad_settings_are_refused(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"{name} \({value}\)"):
        NNCLRConfig(**settings)


def test_it_learns_to_know_a_picture_again() -> None:
    nnclr = method(NNCLRConfig(queue_size=256, projection_width=32, hidden_width=64, predictor_width=64))
    untrained = view_retrieval(nnclr.encoder, CROPS)
    output = learn(nnclr, torch.optim.Adam(nnclr.parameters(), lr=0.003), [CROPS] * 2, steps=range(40))
    assert output.loss.item() < math.log(64) - 0.5
    assert view_retrieval(nnclr.encoder, CROPS) > untrained + 0.1

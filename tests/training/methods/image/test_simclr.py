from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.training.methods.pictures import SIZE_PX, image_batch, knn_accuracy, learn, part, small_encoder
from training.methods.base import MethodContext, Progress
from training.methods.image.simclr import SimCLR, SimCLRConfig, nt_xent_loss
from training.views.presets import Augmentation, view_of
from training.views.spec import ViewSpec

CONTEXT = MethodContext(dataset_size=400, batch_size=64, image_size_px=SIZE_PX)
COLOURFUL = ViewSpec(
    size_px=SIZE_PX,
    crop_scale=(0.4, 1.0),
    brightness=0.6,
    contrast=0.6,
    saturation=0.6,
    hue=0.5,
    jitter_probability=1.0,
)
START = Progress(step=0, max_steps=10, epoch=0)


def method(config: SimCLRConfig | None = None) -> SimCLR:
    encoder = small_encoder(seed=0)
    return SimCLR(encoder, config or SimCLRConfig(temperature=0.5), context=CONTEXT)


def test_loss_is_nt_xent_of_the_projections_of_both_views() -> None:
    simclr = method()
    batch = image_batch([COLOURFUL] * 2, count=8, step=0)
    first, second = simclr.projector(simclr.encoder(torch.cat(batch.views))).chunk(2)
    output = simclr.loss(batch, START)
    torch.testing.assert_close(output.loss, nt_xent_loss(first, second, temperature=0.5))
    torch.testing.assert_close(output.projections, torch.cat([first, second]).detach())


def test_both_views_share_one_batch_norm_pass() -> None:
    simclr = method()
    before = int(part(simclr, "encoder.backbone.1.num_batches_tracked"))
    simclr.loss(image_batch([COLOURFUL] * 2, count=8, step=0), START)
    assert int(part(simclr, "encoder.backbone.1.num_batches_tracked")) == before + 1


def test_every_parameter_learns() -> None:
    simclr = method()
    torch.autograd.backward(simclr.loss(image_batch([COLOURFUL] * 2, count=16, step=0), START).loss)
    for name, parameter in simclr.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
    assert part(simclr, "encoder.backbone.0.weight").grad.abs().max() > 1e-4


def test_views_are_the_papers_and_follow_the_strength() -> None:
    first, second = method().views()
    assert first == second == view_of(Augmentation.SIMCLR_32, SIZE_PX)
    assert method(SimCLRConfig(strength=0.5)).views()[0].brightness == first.brightness / 2
    assert {view.crop_scale for view in method(SimCLRConfig(smallest_crop=0.4)).views()} == {(0.4, 1.0)}


def test_heads_have_the_widths_told() -> None:
    simclr = method(SimCLRConfig(projection_width=24, hidden_width=40))
    output = simclr.loss(image_batch([COLOURFUL] * 2, count=4, step=0), START)
    assert tuple(output.projections.shape) == (8, 24)
    assert simclr.projector.blocks[0].outputs == 40


def test_it_learns_what_colours_hide() -> None:
    simclr = method(SimCLRConfig(temperature=0.2))
    untrained = knn_accuracy(simclr.encoder)
    optimiser = torch.optim.Adam(simclr.parameters(), lr=0.003)
    output = learn(simclr, optimiser, [COLOURFUL] * 2, steps=range(90))
    assert output.loss.item() < math.log(127) - 0.2
    assert float(output.metrics["accuracy"]) > 3 / 127
    assert knn_accuracy(simclr.encoder) > untrained + 0.1


@pytest.mark.parametrize("name", ["temperature", "projection_width", "hidden_width"])
def test_bad_settings_are_refused(name: str) -> None:
    settings: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=rf"{name} \(0"):
        SimCLRConfig(**settings)

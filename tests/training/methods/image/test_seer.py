from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.training.methods.pictures import SIZE_PX, image_batch, small_encoder
from training.methods.base import MethodContext, Needs, Progress
from training.methods.image.seer import SEER, SEERConfig
from training.methods.image.swav import SwAV, sinkhorn, swav_loss
from training.methods.recipes import RecipeName

CONTEXT = MethodContext(dataset_size=400, batch_size=16, image_size_px=SIZE_PX)
CONFIG = SEERConfig(prototype_count=None, hidden_width=24, projection_width=12, small_views=0)
START = Progress(step=0, max_steps=100, epoch=0, steps_per_epoch=100)


def method(config: SEERConfig = CONFIG, context: MethodContext = CONTEXT) -> SEER:
    return SEER(small_encoder(seed=0), config, context=context)


def test_it_is_swav_balanced_ten_times() -> None:
    seer = method()
    images = image_batch(seer.views(), count=16, step=0)
    embeddings = F.normalize(seer.projector(seer.encoder(torch.cat(images.views))), dim=1)
    scores = torch.stack((embeddings @ F.normalize(seer.prototypes.weight.detach(), dim=1).T).chunk(2))
    codes = torch.stack([sinkhorn(view, epsilon=0.03, iterations=10) for view in scores])
    expected = swav_loss(scores, codes, temperature=0.1)
    assert isinstance(seer, SwAV)
    torch.testing.assert_close(seer.loss(images, START).loss, expected, atol=1e-5, rtol=1e-5)


def test_the_head_has_two_hidden_layers_and_no_batch_norm() -> None:
    head = method().projector
    assert [type(layer).__name__ for layer in head.layers] == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert [layer.out_features for layer in head.layers if isinstance(layer, nn.Linear)] == [24, 24, 12]


def test_prototypes_move_within_the_one_pass() -> None:
    # SwAV's own setting would hold them still for the whole run.
    seer = method(replace(CONFIG, frozen_epochs=0.03))
    held = []
    for step in range(100):
        seer.prototypes.weight.grad = torch.ones_like(seer.prototypes.weight)
        seer.after_backward(replace(START, step=step, step_in_epoch=step))
        held.append(seer.prototypes.weight.grad is None)
    assert held == [True] * 3 + [False] * 97
    for recipe in RecipeName:
        assert SEER.recipes[recipe].settings.get("frozen_epochs", SEERConfig().frozen_epochs) <= 0.01


def test_a_queue_fills_within_the_one_pass() -> None:
    config = replace(CONFIG, queue_size=32, queue_epoch=SEERConfig().queue_epoch)
    seer = method(config)
    for step in range(2):
        seer.loss(image_batch(seer.views(), count=16, step=step), START)
    assert [queue.filled for queue in seer.queues.modules() if hasattr(queue, "filled")] == [32, 32]


def test_nothing_it_keeps_grows_with_the_data() -> None:
    small, large = (method(context=replace(CONTEXT, dataset_size=size)) for size in (32, 10**12))
    for key, value in small.state_dict().items():
        assert torch.as_tensor(large.state_dict()[key]).shape == torch.as_tensor(value).shape, key
    assert SEER.needs == Needs()


def test_without_arguments_it_is_the_papers() -> None:
    config = SEERConfig()
    assert (config.sinkhorn_iterations, config.epsilon, config.prototype_count) == (10, 0.03, 16_000)
    assert (config.hidden_width, config.projection_width) == (8192, 256)
    views = config.multi_crop(160)
    assert [view.size_px for view in views] == [160] * 2 + [96] * 4
    assert [view.crop_scale for view in views] == [(0.14, 1.0)] * 2 + [(0.05, 0.14)] * 4


def test_bad_settings_are_refused_as_swavs() -> None:
    with pytest.raises(ValueError, match=r"epsilon \(0\)"):
        SEERConfig(epsilon=0)
    with pytest.raises(ValueError, match=r"prototype_count \(16000\) must be <= 16"):
        method(SEERConfig())

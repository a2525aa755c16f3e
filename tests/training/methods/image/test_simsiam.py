from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.heads import ProjectionHead
from tests.training.methods.pictures import SIZE_PX, image_batch, learn, part, small_encoder, view_retrieval
from training.config import OptimiserConfig
from training.evaluation.rankme import effective_rank
from training.fit.optimiser import build_optimiser, set_rate
from training.methods.base import ImageBatch, MethodContext, Progress
from training.methods.image.simsiam import SimSiam, SimSiamConfig, simsiam_predictor, simsiam_projector
from training.views.presets import Augmentation, view_of
from training.views.spec import ViewSpec

CONTEXT = MethodContext(dataset_size=400, batch_size=64, image_size_px=SIZE_PX)
CONFIG = SimSiamConfig(projection_width=32, projector_layers=2)
CROPS = ViewSpec(size_px=SIZE_PX, crop_scale=(0.4, 1.0), jitter_probability=0.0, grey_probability=0.0)
START = Progress(step=0, max_steps=100, epoch=0)


def method(config: SimSiamConfig = CONFIG) -> SimSiam:
    return SimSiam(small_encoder(seed=0), config, context=CONTEXT)


def batch(step: int = 0) -> ImageBatch:
    return image_batch([CROPS, CROPS], count=32, step=step)


def parts(simsiam: SimSiam) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    z1, z2 = (simsiam.projector(simsiam.encoder(view)) for view in batch().views)
    return simsiam.predictor(z1), simsiam.predictor(z2), z1, z2


def test_loss_is_the_papers() -> None:
    simsiam = method()
    p1, p2, z1, z2 = parts(simsiam)
    expected = -(F.cosine_similarity(p1, z2) + F.cosine_similarity(p2, z1)).mean() / 2
    same_views = -(F.cosine_similarity(p1, z1) + F.cosine_similarity(p2, z2)).mean() / 2
    assert abs(expected - same_views) > 1e-3
    output = simsiam.loss(batch(), START)
    torch.testing.assert_close(output.loss, expected)
    torch.testing.assert_close(output.projections, torch.cat([z1, z2]).detach())


def test_gradients_stop_at_the_targets() -> None:
    simsiam = method()
    p1, p2, z1, z2 = parts(simsiam)
    stopped = -(F.cosine_similarity(p1, z2.detach()) + F.cosine_similarity(p2, z1.detach())).mean() / 2
    wanted = torch.autograd.grad(stopped, list(simsiam.encoder.parameters()), retain_graph=True)
    through = -(F.cosine_similarity(p1, z2) + F.cosine_similarity(p2, z1)).mean() / 2
    leaking = torch.autograd.grad(through, list(simsiam.encoder.parameters()))
    torch.autograd.backward(simsiam.loss(batch(), START).loss)
    found = [parameter.grad for parameter in simsiam.encoder.parameters()]
    torch.testing.assert_close(found, list(wanted), atol=1e-6, rtol=1e-4)
    assert (wanted[0] - leaking[0]).abs().max() > 1e-4


def test_both_views_share_every_weight_and_all_learn() -> None:
    simsiam = method()
    torch.autograd.backward(simsiam.loss(batch(), START).loss)
    for name in ("encoder.backbone.0.weight", "projector.layers.0.weight", "predictor.layers.3.weight"):
        assert part(simsiam, name).grad.abs().max() > 1e-5, name


def kinds(head: ProjectionHead) -> list[str]:
    return [type(layer).__name__ for layer in head.layers]


def test_projector_is_the_papers() -> None:
    projector = simsiam_projector(512)
    assert kinds(projector) == ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear", "BatchNorm1d"]
    assert [(block.inputs, block.outputs, block.bias) for block in projector.blocks] == [
        (512, 2048, False),
        (2048, 2048, False),
        (2048, 2048, False),
    ]
    trained = [all(p.requires_grad for p in norm.parameters()) for norm in projector.layers[1::3]]
    assert trained == [True, True, False]
    assert not any(p.requires_grad for p in projector.layers[-1].parameters())
    assert [block.outputs for block in simsiam_projector(16, width=8, layers=2).blocks] == [8, 8]
    assert kinds(simsiam_projector(16, width=8, layers=1)) == ["Linear", "BatchNorm1d"]


def test_the_projection_is_standardised_over_the_batch() -> None:
    projections = simsiam_projector(16, width=8)(torch.randn(64, 16, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(projections.mean(dim=0), torch.zeros(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(projections.std(dim=0, correction=0), torch.ones(8), atol=1e-2, rtol=0)


def test_predictor_is_the_papers_bottleneck() -> None:
    predictor = simsiam_predictor()
    assert kinds(predictor) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert [(block.inputs, block.outputs, block.bias) for block in predictor.blocks] == [
        (2048, 512, False),
        (512, 2048, True),
    ]


@pytest.mark.parametrize("fixed", [True, False])
def test_the_predictors_rate_does_not_decay(fixed: bool) -> None:
    simsiam = method(replace(CONFIG, fixed_predictor_rate=fixed))
    optimiser = build_optimiser(simsiam, OptimiserConfig(learning_rate=0.1))
    set_rate(optimiser, 0.25)
    rates = {name: group["lr"] for group in optimiser.param_groups for name in [group["name"].split(".")[0]]}
    assert rates == pytest.approx({"body": 0.025, "predictor": 0.1 if fixed else 0.025})
    grouped = {id(parameter) for group in optimiser.param_groups for parameter in group["params"]}
    assert grouped == {id(parameter) for parameter in simsiam.parameters() if parameter.requires_grad}
    # The log takes the run's rate from the first group.
    assert optimiser.param_groups[0]["name"].startswith("body.")


def test_views_are_alike() -> None:
    assert method().views() == (view_of(Augmentation.STRONG, SIZE_PX),) * 2


@pytest.mark.parametrize(("name", "value"), [("projection_width", 3), ("projector_layers", 0)])
def test_bad_settings_are_refused(name: str, value: int) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"{name} \({value}\)"):
        SimSiamConfig(**settings)


def test_it_learns_to_know_a_picture_again_and_does_not_collapse() -> None:
    simsiam = method()
    untrained = view_retrieval(simsiam.encoder, CROPS)
    optimiser = torch.optim.SGD([p for p in simsiam.parameters() if p.requires_grad], lr=0.05, momentum=0.9)
    output = learn(simsiam, optimiser, [CROPS] * 2, steps=range(24))
    assert output.loss.item() < -0.5
    # BatchNorm keeps the spread up even where all projections lie on a line, as they do without the stop-gradient.
    singular_values = torch.linalg.svdvals(output.projections).double().numpy()
    assert effective_rank(singular_values) > 8
    assert view_retrieval(simsiam.encoder, CROPS) > untrained + 0.1

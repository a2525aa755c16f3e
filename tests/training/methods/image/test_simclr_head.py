from __future__ import annotations

import torch
from torch import nn

from models.heads import ProjectionHead
from training.methods.image.simclr import simclr_projector


def shapes(head: ProjectionHead) -> list[tuple[int, int]]:
    return [(layer.in_features, layer.out_features) for layer in head.modules() if isinstance(layer, nn.Linear)]


def kinds(head: ProjectionHead) -> list[str]:
    return [type(layer).__name__ for layer in head.layers]


def test_simclr_projector_normalises_both_layers_and_has_no_bias_of_its_own() -> None:
    head = simclr_projector(16, outputs=4)

    assert kinds(head) == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
    assert shapes(head) == [(16, 16), (16, 4)]
    assert all(layer.bias is None for layer in head.modules() if isinstance(layer, nn.Linear))


def test_simclr_projections_stay_centred_after_training() -> None:
    torch.manual_seed(0)
    head = simclr_projector(16, hidden=8, outputs=4)
    optimizer = torch.optim.SGD([p for p in head.parameters() if p.requires_grad], lr=1.0)
    inputs = torch.randn(32, 16)
    for _ in range(3):
        optimizer.zero_grad()
        (head(inputs) * torch.arange(32.0)[:, None]).mean().backward()
        optimizer.step()

    assert head(inputs).mean(dim=0).abs().max() < 1e-5


def test_simclr_projector_equals_the_formula() -> None:
    torch.manual_seed(0)
    head = simclr_projector(6, outputs=3)
    inputs = torch.randn(9, 6)
    first, second = (layer.weight for layer in head.modules() if isinstance(layer, nn.Linear))

    def standardise(values: torch.Tensor) -> torch.Tensor:
        return (values - values.mean(0)) / (values.var(0, unbiased=False) + 1e-5).sqrt()

    expected = standardise(standardise(inputs @ first.T).relu() @ second.T)

    torch.testing.assert_close(head(inputs), expected)

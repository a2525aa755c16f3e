from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from training.config import OptimiserConfig, OptimiserName
from training.fit.optimiser import build_optimiser, set_rate
from training.methods.base import LossOutput, Method, Progress


class TwoParts(Method):
    def __init__(self, head_scale: float | None = None, *, fixed_head: bool = False) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, 2)
        self.target = nn.Linear(4, 2).requires_grad_(False)
        self.head_scale = head_scale
        self.fixed_head = fixed_head

    def loss(self, batch: Tensor, progress: Progress) -> LossOutput:
        raise NotImplementedError

    def param_groups(self) -> Iterable[dict[str, Any]]:
        if self.head_scale is None:
            return super().param_groups()
        return [
            {"name": "body", "params": list(self.encoder.parameters())},
            {"name": "head", "params": list(self.head.parameters()), "lr_scale": self.head_scale}
            | ({"fixed_rate": True} if self.fixed_head else {}),
        ]


def describe(optimiser: torch.optim.Optimizer) -> dict[str, tuple[int, float, float]]:
    groups = optimiser.param_groups
    return {group["name"]: (len(group["params"]), group["weight_decay"], group["rate"]) for group in groups}


def test_biases_and_norms_are_kept_from_weight_decay() -> None:
    optimiser = build_optimiser(TwoParts(), OptimiserConfig(learning_rate=0.1, weight_decay=0.5))

    assert describe(optimiser) == {
        "all.encoder.decayed": (1, 0.5, 0.1),
        "all.encoder.kept": (3, 0.0, 0.1),  # bias, and BatchNorm's scale and shift
        "all.head.decayed": (1, 0.5, 0.1),
        "all.head.kept": (1, 0.0, 0.1),
    }


def test_the_backbone_and_the_methods_own_groups_have_their_rates() -> None:
    optimiser = build_optimiser(TwoParts(head_scale=10), OptimiserConfig(learning_rate=0.1, backbone_lr_scale=0.2))

    assert {name: rate for name, (_, _, rate) in describe(optimiser).items()} == {
        "body.encoder.decayed": pytest.approx(0.02),
        "body.encoder.kept": pytest.approx(0.02),
        "head.head.decayed": pytest.approx(1.0),
        "head.head.kept": pytest.approx(1.0),
    }


def test_a_backbone_scale_of_0_trains_the_head_only() -> None:
    optimiser = build_optimiser(TwoParts(), OptimiserConfig(backbone_lr_scale=0))

    assert list(describe(optimiser)) == ["all.head.decayed", "all.head.kept"]


def test_nothing_to_train_is_refused() -> None:
    method = TwoParts()
    method.head.requires_grad_(False)

    with pytest.raises(ValueError, match="--freeze"):
        build_optimiser(method, OptimiserConfig(backbone_lr_scale=0))


def test_lars_keeps_biases_and_norms_at_the_plain_rate() -> None:
    method = TwoParts()
    optimiser = build_optimiser(method, OptimiserConfig(optimiser=OptimiserName.LARS, learning_rate=1.0, momentum=0.0))
    before = method.head.weight.detach().clone(), method.head.bias.detach().clone()
    for parameter in method.parameters():
        parameter.grad = torch.ones_like(parameter)

    optimiser.step()

    # Bias: the plain step. Weight: rate * 0.001 * ||w|| / ||g|| * g.
    trust = 0.001 * before[0].norm() / torch.ones(2, 4).norm()
    assert torch.allclose(method.head.bias, before[1] - 1.0)
    assert torch.allclose(method.head.weight, before[0] - trust, atol=1e-7)


def test_setting_the_rate_scales_each_groups_own() -> None:
    optimiser = build_optimiser(TwoParts(head_scale=10), OptimiserConfig(learning_rate=0.1))

    set_rate(optimiser, 0.5)
    set_rate(optimiser, 0.25)

    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([0.025, 0.025, 0.25, 0.25])


@pytest.mark.parametrize("name", OptimiserName)
def test_a_fixed_rate_is_changed_by_no_schedule(name: OptimiserName) -> None:
    optimiser = build_optimiser(TwoParts(10, fixed_head=True), OptimiserConfig(optimiser=name, learning_rate=0.1))

    set_rate(optimiser, 0.5)
    set_rate(optimiser, 0.25)

    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([0.025, 0.025, 1.0, 1.0])


def test_a_fixed_rate_is_still_fixed_after_a_restore() -> None:
    saved = build_optimiser(TwoParts(1, fixed_head=True), OptimiserConfig(learning_rate=0.1)).state_dict()
    optimiser = build_optimiser(TwoParts(1, fixed_head=True), OptimiserConfig(learning_rate=0.1))
    optimiser.load_state_dict(saved)

    set_rate(optimiser, 0.25)

    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([0.025, 0.025, 0.1, 0.1])

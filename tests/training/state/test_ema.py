from __future__ import annotations

import pytest
import torch
from torch import nn

from training.methods.base import Progress
from training.state.ema import EmaTarget, cosine_ema_decay


def branch() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_target_starts_equal_and_moves_by_the_decay() -> None:
    online = branch()
    target = EmaTarget(online)
    before = [p.clone() for p in target.parameters()]
    with torch.no_grad():
        for p in online.parameters():
            p.add_(1.0)
    target.update(online, decay=0.9)
    for old, new, p in zip(before, target.parameters(), online.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * p.detach())


def test_decay_of_one_keeps_and_of_zero_copies() -> None:
    online = branch()
    target = EmaTarget(online)
    kept = [p.clone() for p in target.parameters()]
    with torch.no_grad():
        for p in online.parameters():
            p.mul_(2.0).add_(1.0)
    target.update(online, decay=1.0)
    torch.testing.assert_close(list(target.parameters()), kept)
    target.update(online, decay=0.0)
    torch.testing.assert_close(list(target.parameters()), [p.detach() for p in online.parameters()], check_stride=False)


def test_buffers_are_the_targets_own() -> None:
    online = branch()
    target = EmaTarget(online)
    online(torch.randn(8, 3, generator=torch.Generator().manual_seed(1)) + 5)
    target.update(online, decay=0.5)
    statistics = dict(target.named_buffers())["module.1.running_mean"]
    assert statistics.tolist() == [0.0] * 4
    target(torch.randn(8, 3, generator=torch.Generator().manual_seed(2)))
    assert statistics.abs().sum() > 0


def test_target_never_learns() -> None:
    target = EmaTarget(branch())
    inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert not target(inputs).requires_grad
    assert not any(p.requires_grad for p in target.parameters())


def test_bad_updates_are_refused() -> None:
    target = EmaTarget(branch())
    with pytest.raises(ValueError, match=r"EMA decay \(1.5\)"):
        target.update(branch(), decay=1.5)
    with pytest.raises(ValueError, match="other parameters"):
        target.update(nn.Linear(3, 4), decay=0.5)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.996), (50, 0.998), (100, 1.0)])
def test_cosine_decay_equals_the_worked_numbers(step: int, expected: float) -> None:
    progress = Progress(step=step, max_steps=100, epoch=0)
    assert cosine_ema_decay(0.996, progress) == pytest.approx(expected, abs=1e-9)

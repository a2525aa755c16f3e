"""The target branch: an exponential average of the online branch."""

from __future__ import annotations

import copy
import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from training.methods.base import Progress

__all__ = ["EmaTarget", "cosine_ema_decay"]


class EmaTarget(nn.Module):
    """A copy of the online branch that follows it slowly and never learns by itself.

    Parameters are averaged. Buffers are not: the target stays in training mode and its BatchNorm keeps the running
    statistics of what it sees itself, as in MoCo, BYOL and MSF. The target's outputs in evaluation mode are therefore
    its own business; the online encoder is what is evaluated, kept and served.

    Args:
        online: The branch to follow; deep-copied, so both start equal.
    """

    def __init__(self, online: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(online).requires_grad_(False)

    @torch.no_grad()
    def update(self, online: nn.Module, *, decay: float) -> None:
        """Moves every parameter: `target = decay * target + (1 - decay) * online`.

        Args:
            online: The branch that was copied.
            decay: In [0, 1]; 1 leaves the target as it is. Papers: m or tau.

        Raises:
            ValueError: `decay` is outside [0, 1], or `online` has other parameters than the target.
        """
        if not 0 <= decay <= 1:
            raise ValueError(f"EMA decay ({decay}) must be in [0, 1]")
        targets: list[Tensor] = list(self.module.parameters())
        sources: list[Tensor] = list(online.parameters())
        if [p.shape for p in targets] != [p.shape for p in sources]:
            raise ValueError("the online branch has other parameters than the target that was copied from it")
        # One fused call for all tensors; a call per tensor would be launch-bound on a GPU.
        torch._foreach_lerp_(targets, sources, 1 - decay)

    @torch.no_grad()
    def forward(self, inputs: Tensor, *arguments: Any) -> Tensor:
        """Runs the target without a graph.

        Args:
            inputs: What the branch takes.
            *arguments: Its further inputs.

        Returns:
            Its outputs, constants to any loss.
        """
        return cast(Tensor, self.module(inputs, *arguments)).detach()


def cosine_ema_decay(base: float, progress: Progress) -> float:
    """Returns BYOL's decay at a step: `1 - (1 - base) (cos(pi k / K) + 1) / 2`.

    Args:
        base: Decay at the first step; 0.996 in the paper's longest run.
        progress: Gives the step k and the number of steps K.

    Returns:
        `base` at first, (1 + base) / 2 half-way, 1 at the end.
    """
    return 1 - (1 - base) * (math.cos(math.pi * progress.fraction) + 1) / 2

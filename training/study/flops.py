"""What one training step costs in floating-point operations: the measure in which methods get equal budgets."""

from __future__ import annotations

import copy

import torch
from torch.utils.flop_counter import FlopCounterMode

from training.fit.image_training import ImageTraining
from training.fit.streams import Position, Streams
from training.methods.base import Progress

__all__ = ["step_flops"]


def step_flops(training: ImageTraining, *, seed: int = 0) -> float:
    """Counts one step's operations: forward and backward, with target networks, supports and all crops.

    Matrix products and convolutions are counted, a multiplication and an addition each for itself; making views,
    norms and the optimiser are not. The training is left as it was.

    Args:
        training: A run before its first step.
        seed: Of the step's batch.

    Returns:
        Operations of a step.
    """
    streams = Streams(seed)
    position = Position(step=0, epoch=0, step_in_epoch=0, rank=0, world_size=1)
    batch = training.feed.finish(training.feed.load(position, streams), position, streams, torch.device("cpu"))
    method = copy.deepcopy(training.method).train()
    progress = Progress(step=0, max_steps=1, epoch=0)
    with (
        streams.default_generators("forward", position, torch.device("cpu")),
        FlopCounterMode(display=False) as counter,
    ):
        torch.autograd.backward(method.loss(batch, progress).loss)
    return float(counter.get_total_flops())

"""What one training step costs in floating-point operations: the measure in which methods get equal budgets."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from training.batches.feed import Feed
from training.methods.base import Method, Progress
from training.streams import Position, Streams

__all__ = ["step_flops"]


def step_flops(method: Method, feed: Feed, *, batches: int = 1, seed: int = 0) -> float:
    """Counts one step's operations: forward and backward, with target networks, supports and all crops.

    Matrix products and convolutions are counted, a multiplication and an addition each for itself; making views,
    norms and the optimiser are not. The method is left as it was.

    Args:
        method: Before its first step.
        feed: Its data.
        batches: First steps that are averaged, at least 1, where they differ.
        seed: Of the batches.

    Returns:
        Operations of a step.
    """
    cpu, streams = torch.device("cpu"), Streams(seed)
    method = copy.deepcopy(method).train()
    steps_per_epoch = feed.steps_per_epoch(1)
    total = 0.0
    for step in range(batches):
        epoch, step_in_epoch = divmod(step, steps_per_epoch)
        position = Position(step=step, epoch=epoch, step_in_epoch=step_in_epoch, rank=0, world_size=1)
        batch = feed.finish(feed.load(position, streams), position, streams, cpu)
        with streams.default_generators("forward", position, cpu), _counter() as counter:
            torch.autograd.backward(method.loss(batch, Progress(step=0, max_steps=1, epoch=0)).loss)
        total += counter.get_total_flops()
    return total / batches


def _counter() -> FlopCounterMode:
    # torch's own formula takes every convolution's gradient for a dense one: a depthwise one of 1,000 channels would
    # count a thousandfold.
    formulas: dict[Any, Any] = {torch.ops.aten.convolution_backward: _convolution_backward_flops}
    return FlopCounterMode(display=False, custom_mapping=formulas)


def _convolution_backward_flops(
    grad_output_shape: Sequence[int],
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    *arguments: Any,
    **_: Any,
) -> int:
    """Each gradient costs what the forward pass costs: every tap of the kernel at every place that it is applied to."""
    transposed: bool = arguments[4]
    wanted: Sequence[bool] = arguments[7]
    places = input_shape if transposed else grad_output_shape
    forward = 2 * places[0] * math.prod(places[2:]) * math.prod(weight_shape)
    return forward * sum(wanted[:2])

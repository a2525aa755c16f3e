"""How long will it take? A few steps on a copy of the method tell, and leave no trace."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch

from training.fit.module import MethodModule, ReadyStep
from training.fit.optimiser import build_optimiser

__all__ = ["describe_duration", "step_duration_s"]

_WARM_STEPS = 1
_TIMED_STEPS = 2


def step_duration_s(module: MethodModule, step: ReadyStep, *, clock: Callable[[], float] = time.perf_counter) -> float:
    """Measures one step of the run: loss, gradient and update.

    Works on a copy, draws from the step's own streams and gives torch's generators back, so that the run goes as if
    this had not been called. Under several processes all of them must call it, since losses gather.

    Args:
        module: The method in its trainer, before a step.
        step: A batch to measure on.
        clock: Seconds; rises.

    Returns:
        Seconds a step.
    """
    method = copy.deepcopy(module.method)
    optimiser = build_optimiser(method, module.config.optimiser)
    started = clock()
    for number in range(_WARM_STEPS + _TIMED_STEPS):
        if number == _WARM_STEPS:
            _synchronise(module.device)
            started = clock()
        with module.trainer.precision_plugin.train_step_context():
            output = module.compute(method, step)
        optimiser.zero_grad()
        output.loss.backward()  # type: ignore[no-untyped-call]  # unannotated in torch
        method.after_backward(module.progress(step.position))
        optimiser.step()
        method.after_step(module.progress(step.position))
    _synchronise(module.device)
    return (clock() - started) / _TIMED_STEPS


def describe_duration(seconds: float) -> str:
    """Returns a duration in words, to the precision an estimate has.

    Args:
        seconds: At least 0.

    Returns:
        Such as `40 s`, `7 min` or `2.5 h`.
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

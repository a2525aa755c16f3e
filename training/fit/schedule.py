"""The learning rate as a function of the step: nothing to store, nothing to restore."""

from __future__ import annotations

import math

from training.config import OptimiserConfig, Schedule

__all__ = ["check_schedule", "rate_factor"]


def check_schedule(config: OptimiserConfig, max_steps: int) -> None:
    """Checks that the warm-up ends before the run does.

    Args:
        config: The optimiser.
        max_steps: Steps of the run.

    Raises:
        ValueError: It does not.
    """
    if config.warmup_steps and _warmup_steps(config, max_steps) >= max_steps:
        raise ValueError(f"--warmup-steps ({config.warmup_steps:g}) must be < the run's steps ({max_steps})")


def rate_factor(config: OptimiserConfig, step: int, max_steps: int) -> float:
    """Returns the factor on the learning rate at a step.

    Args:
        config: The optimiser.
        step: Steps done before, in [0, max_steps).
        max_steps: Steps of the run.

    Returns:
        In [0, 1]: (step + 1) / (w + 1) in a warm-up of w steps, so that the first step is not lost; then 1, or half a
        cosine that would reach 0 at `max_steps`.
    """
    warmup = _warmup_steps(config, max_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.schedule is Schedule.CONSTANT:
        return 1.0
    done = (step - warmup) / max(1, max_steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * done))


def _warmup_steps(config: OptimiserConfig, max_steps: int) -> int:
    share = config.warmup_steps if config.warmup_steps < 1 else 0.0
    return int(share * max_steps) if share else int(config.warmup_steps)

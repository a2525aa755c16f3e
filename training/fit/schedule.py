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
    if config.warmup_steps and config.warmup_steps >= max_steps:
        raise ValueError(f"--warmup-steps ({config.warmup_steps}) must be < the run's steps ({max_steps})")


def rate_factor(config: OptimiserConfig, step: int, max_steps: int) -> float:
    """Returns the factor on the learning rate at a step.

    Args:
        config: The optimiser.
        step: Steps done before, in [0, max_steps).
        max_steps: Steps of the run.

    Returns:
        In [0, 1]: (step + 1) / (warmup_steps + 1) in the warm-up, so that the first step is not lost; then 1, or half a
        cosine that would reach 0 at `max_steps`.
    """
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    if config.schedule is Schedule.CONSTANT:
        return 1.0
    done = (step - config.warmup_steps) / max(1, max_steps - config.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))

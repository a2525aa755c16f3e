"""What a run is told where its user says nothing: each method's file has its recipes. Torch-free.

Papers train for days on many GPUs. What suits one machine and a corpus or archive of thousands to millions is another
optimiser and a gentler task, so each method has both, under names; every part can be overridden by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from models.config import TextEncoderConfig
from training.config import OptimiserConfig, OptimiserName, Schedule

__all__ = ["Recipe", "RecipeName", "Recipes", "adamw", "lars", "sgd"]


class RecipeName(StrEnum):
    """For what a recipe is made."""

    SCRATCH = "scratch"
    """An encoder without any training, one machine, minutes to hours."""
    ADAPT = "adapt"
    """An encoder that starts from trained weights, which are to be adapted and not overwritten."""
    PAPER = "paper"
    """What the method's authors did, as far as it fits one machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Everything about a run that depends on the method."""

    batch_size: int = 256
    """Items per step and device."""
    optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(learning_rate=1e-3, schedule=Schedule.COSINE, warmup_steps=0.05)
    )
    """How parameters are changed."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The method's own settings that differ from its configuration's defaults, in JSON's own types."""
    text_encoder: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    """Shape of a sentence encoder from scratch, but for its vocabulary."""


Recipes = Mapping[RecipeName, Recipe]
"""A method's recipes."""


def adamw(rate: float, weight_decay: float = 1e-4, *, warmup: float = 0.05) -> OptimiserConfig:
    """Returns AdamW with half a cosine: for hundreds to thousands of steps, faster than the papers' SGD.

    Args:
        rate: Full learning rate.
        weight_decay: Decoupled.
        warmup: Share of the steps.

    Returns:
        The optimiser.
    """
    return OptimiserConfig(learning_rate=rate, weight_decay=weight_decay, schedule=Schedule.COSINE, warmup_steps=warmup)


def sgd(rate: float, weight_decay: float, *, warmup: float = 0.0) -> OptimiserConfig:
    """Returns SGD with momentum 0.9 and half a cosine.

    Args:
        rate: Full learning rate.
        weight_decay: Of matrices.
        warmup: Share of the steps.

    Returns:
        The optimiser.
    """
    return OptimiserConfig(
        optimiser=OptimiserName.SGD,
        learning_rate=rate,
        weight_decay=weight_decay,
        schedule=Schedule.COSINE,
        warmup_steps=warmup,
    )


def lars(rate: float, weight_decay: float, *, warmup: float = 0.01) -> OptimiserConfig:
    """Returns LARS with momentum 0.9 and half a cosine.

    Args:
        rate: Full learning rate.
        weight_decay: Of matrices.
        warmup: Share of the steps; 10 epochs of 1,000 in most papers.

    Returns:
        The optimiser.
    """
    return OptimiserConfig(
        optimiser=OptimiserName.LARS,
        learning_rate=rate,
        weight_decay=weight_decay,
        schedule=Schedule.COSINE,
        warmup_steps=warmup,
    )

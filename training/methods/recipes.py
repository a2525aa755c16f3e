"""What a run of each method is told where its user says nothing. Torch-free.

Papers train for days on many GPUs. What suits one machine and a corpus or archive of thousands to millions is another
optimiser and a gentler task, so each method has both, under names; every part can be overridden by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from models.config import Pooling, TextEncoderConfig
from training.config import OptimiserConfig, OptimiserName, Schedule

__all__ = ["MEAN_SHIFT", "QUICK_THOUGHTS", "SIMCLR", "Recipe", "RecipeName", "Recipes"]


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


# One tied encoder whose served cosine is what is trained, and mean pooling: what learns most in minutes.
_COSINE = {"similarity": "cosine", "temperature": 0.05}

QUICK_THOUGHTS: Recipes = {
    RecipeName.SCRATCH: Recipe(
        optimiser=OptimiserConfig(learning_rate=3e-3, schedule=Schedule.COSINE, warmup_steps=0.05),
        settings=_COSINE,
        text_encoder=TextEncoderConfig(width=256, embedding_width=128, max_tokens=64, pooling=Pooling.MEAN),
    ),
    # SimCSE's and sentence-transformers' rate for encoders of MiniLM's size.
    RecipeName.ADAPT: Recipe(
        batch_size=128,
        optimiser=OptimiserConfig(
            learning_rate=2e-5, weight_decay=0.01, schedule=Schedule.COSINE, warmup_steps=0.1, gradient_clip=1.0
        ),
        settings=_COSINE,
    ),
    # Two untied encoders, final states, inner product (Logeswaran & Lee 2018, section 4).
    RecipeName.PAPER: Recipe(
        batch_size=400,
        optimiser=OptimiserConfig(learning_rate=5e-4, gradient_clip=5.0),
        text_encoder=TextEncoderConfig(towers=2),
    ),
}

# Hundreds to thousands of steps want a faster optimiser than the papers' SGD.
_FROM_SCRATCH = OptimiserConfig(learning_rate=2e-3, weight_decay=1e-4, schedule=Schedule.COSINE, warmup_steps=0.05)
_ADAPTED = replace(_FROM_SCRATCH, learning_rate=2e-4)


def _sgd(rate: float, weight_decay: float) -> OptimiserConfig:
    return OptimiserConfig(
        optimiser=OptimiserName.SGD, learning_rate=rate, weight_decay=weight_decay, schedule=Schedule.COSINE
    )


_GENTLE_CROPS = {"temperature": 0.1, "augmentation": "strong"}

SIMCLR: Recipes = {
    RecipeName.SCRATCH: Recipe(optimiser=_FROM_SCRATCH, settings=_GENTLE_CROPS),
    RecipeName.ADAPT: Recipe(optimiser=_ADAPTED, settings=_GENTLE_CROPS),
    # Appendix B.9's temperature for CIFAR-10, at lightly's rate: 0.06 a 128 images.
    RecipeName.PAPER: Recipe(optimiser=_sgd(0.12, 5e-4), settings={"temperature": 0.5}),
}

# The authors' bank of a million is for ImageNet alone: None sizes it by the data.
_OWN_BANK = {"bank_size": None}

# Without negatives a fast start falls into a few dimensions, whatever follows: many small steps of SGD, and a projector
# that BatchNorm closes, keep the most.
MEAN_SHIFT: Recipes = {
    RecipeName.SCRATCH: Recipe(
        batch_size=64,
        optimiser=replace(_sgd(0.05, 1e-4), warmup_steps=0.02),
        settings={**_OWN_BANK, "output_norm": True},
    ),
    RecipeName.ADAPT: Recipe(
        batch_size=64,
        optimiser=replace(_sgd(0.005, 1e-4), warmup_steps=0.02),
        settings={**_OWN_BANK, "output_norm": True},
    ),
    RecipeName.PAPER: Recipe(optimiser=_sgd(0.05, 1e-4), settings=_OWN_BANK),
}

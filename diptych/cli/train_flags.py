"""Flags of `diptych train` whose defaults depend on other flags: None means that nobody said anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

from models.config import Pooling, TextArchitecture, TextEncoderConfig
from training.config import OptimiserConfig, OptimiserName, Schedule
from training.methods.table import all_methods

__all__ = ["OptimiserFlags", "TextEncoderFlags", "methods_help"]

Config = TypeVar("Config", OptimiserConfig, TextEncoderConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimiserFlags:
    """How parameters are changed; what is not given is the recipe's."""

    optimiser: OptimiserName | None = None
    """sgd, adamw or lars."""
    learning_rate: float | None = None
    """Full rate, after the warm-up."""
    momentum: float | None = None
    """Of sgd and lars."""
    weight_decay: float | None = None
    """Biases and norms are kept from it."""
    schedule: Schedule | None = None
    """How the rate goes after the warm-up: constant, or half a cosine to 0."""
    warmup_steps: float | None = None
    """Steps in which the rate rises from near 0; below 1 a share of the run's steps."""
    gradient_clip: float | None = None
    """Largest global norm of the gradient; 0 does not clip."""
    backbone_lr_scale: float | None = None
    """Factor on the rate of the encoder's parameters, beside the heads'."""

    def over(self, base: OptimiserConfig) -> OptimiserConfig:
        """Returns the base with what was given in its place."""
        return _over(self, base)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextEncoderFlags:
    """Shape of the encoder; what is not given is the recipe's. Not together with --init, which says it all."""

    architecture: Literal["gru", "transformer"] | None = None
    """gru or transformer."""
    width: int | None = None
    """Width of one tower's vector."""
    embedding_width: int | None = None
    """GRU: width of a token's embedding."""
    layers: int | None = None
    """Layers; a transformer has 4 where nothing is said."""
    heads: int | None = None
    """Transformer: attention heads."""
    max_tokens: int | None = None
    """Longest sentence in tokens; longer ones are cut."""
    pooling: Pooling | None = None
    """How token states become one vector."""
    dropout: float | None = None
    """Share of activations dropped in training; a transformer drops 0.1 where nothing is said."""
    towers: int | None = None
    """1: one encoder for a sentence and for its neighbours. 2: one for each, as in the paper."""

    def over(self, base: TextEncoderConfig, *, pretrained: bool) -> TextEncoderConfig | None:
        """Returns the base with what was given in its place; None where a directory says it all."""
        if pretrained and all(getattr(self, field.name) is None for field in fields(self)):
            return None
        if self.architecture not in (None, base.architecture):
            base = _as_transformer(base) if self.architecture == "transformer" else _as_gru(base)
        return _over(replace(self, architecture=None), base)


def methods_help(modality: str) -> str:
    """Returns the methods that learn from a modality, for the help.

    Args:
        modality: `text` or `image`.

    Returns:
        Names by family.
    """
    families: dict[str, list[str]] = {}
    for entry in all_methods().values():
        if entry.modality == modality:
            families.setdefault(entry.family, []).append(entry.name)
    listed = "; ".join(f"{family}: {', '.join(names)}" for family, names in families.items())
    return f"How it learns. {listed}. `diptych methods METHOD` says more of one."


def _as_transformer(base: TextEncoderConfig) -> TextEncoderConfig:
    pooling = Pooling.MEAN if base.pooling is Pooling.LAST else base.pooling
    return replace(base, architecture=TextArchitecture.TRANSFORMER, layers=4, pooling=pooling, dropout=0.1)


def _as_gru(base: TextEncoderConfig) -> TextEncoderConfig:
    pooling = Pooling.MEAN if base.pooling is Pooling.CLS else base.pooling
    return replace(base, architecture=TextArchitecture.GRU, layers=1, pooling=pooling)


def _over(flags: OptimiserFlags | TextEncoderFlags, base: Config) -> Config:
    given: Mapping[str, Any] = {
        field.name: value for field in fields(flags) if (value := getattr(flags, field.name)) is not None
    }
    return replace(base, **given)

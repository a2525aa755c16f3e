"""What each method may be told. Torch-free.

A configuration without arguments holds the paper's settings, for ImageNet where it has several;
`training.methods.recipes` has those that suit less data.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from training.views.presets import Augmentation

__all__ = ["MeanShiftConfig", "QuickThoughtsConfig", "QuickThoughtsLoss", "SimCLRConfig", "Similarity"]


class QuickThoughtsLoss(StrEnum):
    """How a sentence's neighbours are told from the rest of the block."""

    SOFTMAX = "softmax"
    """Picked among all candidates of the block, as in the paper."""
    LOGISTIC = "logistic"
    """Set above each negative, pair by pair."""


class Similarity(StrEnum):
    """How two sentences are scored."""

    INNER_PRODUCT = "inner-product"
    """The paper's; for two untied towers."""
    COSINE = "cosine"
    """The inner product of unit vectors over the temperature; for one tower, whose cosine is what is served."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuickThoughtsConfig:
    """Quick-Thoughts (Logeswaran & Lee 2018): tell a sentence's neighbours from the other sentences of its block."""

    loss: QuickThoughtsLoss = QuickThoughtsLoss.SOFTMAX
    """How neighbours are told from the rest of the block."""
    similarity: Similarity = Similarity.INNER_PRODUCT
    """How two sentences are scored."""
    temperature: float = 1.0
    """Divides the scores; above 0. The paper has none, which is 1."""
    context_size: int = 1
    """How far a neighbour may stand, in sentences, at least 1."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature ({self.temperature}) must be > 0")
        if self.context_size < 1:
            raise ValueError(f"context_size ({self.context_size}) must be >= 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class SimCLRConfig:
    """SimCLR (Chen et al. 2020): find the other view of an image among all views of the batch."""

    temperature: float = 0.1
    """Divides the cosines; above 0. Paper: 0.1 for ImageNet, 0.5 for CIFAR-10."""
    projection_width: int = 128
    """Width of the projection that the loss compares."""
    hidden_width: int | None = None
    """Width of the projector's hidden layer; as wide as the representation where not given."""
    augmentation: Augmentation = Augmentation.SIMCLR
    """Set of random changes for both views."""
    strength: float = 1.0
    """Factor on the colour changes, at least 0."""
    smallest_crop: float | None = None
    """Least area of a view's crop as a fraction of the image's, in (0, 1]; the set's own where not given. Drawings and
    logos, which a small crop makes unrecognisable, want 0.35 to 0.5."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature ({self.temperature}) must be > 0")
        if self.projection_width < 1 or (self.hidden_width is not None and self.hidden_width < 1):
            raise ValueError(
                f"projection_width ({self.projection_width}) and hidden_width ({self.hidden_width}) must be >= 1"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class MeanShiftConfig:
    """MSF (Koohpayegani et al. 2021): move each image to the mean of its target's nearest neighbours."""

    bank_size: int | None = 1_024_000
    """Recent targets to search, at least the batch and below the data set minus a batch. Where not given: half of the
    data set, at most 8,192."""
    neighbour_count: int = 5
    """Nearest targets to move to; 1 is BYOL without symmetry."""
    ema_decay: float = 0.99
    """Of the target branch, constant, in [0, 1]. Paper: m."""
    output_norm: bool = False
    """Whether a BatchNorm closes the projector: in short runs it keeps projections from falling into a few dimensions.
    The authors have none."""
    weak_target: bool = True
    """MSF w/s: the target sees a weak view (crop and flip), the online branch a strong one. False: both strong."""
    augmentation: Augmentation = Augmentation.STRONG
    """Set of random changes for the strong view."""
    strength: float = 1.0
    """Factor on the colour changes, at least 0."""
    smallest_crop: float | None = None
    """Least area of a view's crop as a fraction of the image's, in (0, 1]; the set's own where not given. Drawings and
    logos, which a small crop makes unrecognisable, want 0.35 to 0.5."""
    neighbour_warmup: float = 0.0
    """Fraction of the training over which the neighbours grow from 1 to `neighbour_count`; the paper has none."""

    def __post_init__(self) -> None:
        if self.neighbour_count < 1:
            raise ValueError(f"neighbour_count ({self.neighbour_count}) must be >= 1")
        if self.bank_size is not None and self.bank_size < self.neighbour_count:
            raise ValueError(f"bank_size ({self.bank_size}) must be >= neighbour_count ({self.neighbour_count})")
        if not 0 <= self.ema_decay <= 1:
            raise ValueError(f"ema_decay ({self.ema_decay}) must be in [0, 1]")
        if not 0 <= self.neighbour_warmup <= 1:
            raise ValueError(f"neighbour_warmup ({self.neighbour_warmup}) must be in [0, 1]")

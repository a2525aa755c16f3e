"""Linear probe: multinomial logistic regression on cached features.

Features are standardised with the training items' statistics; the L2 penalty is chosen on a held-out tenth of the
training items, never on the test items; then all training items are fitted with it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]  # ships no types
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]  # ships no types

__all__ = ["LinearProbe", "ProbeResult", "fit_linear_probe"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearProbe:
    """How the probe is fitted."""

    l2_grid: tuple[float, ...] = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
    """Penalties tried: the loss is mean cross-entropy + l2 / 2 times the squared weights. Each above 0."""
    holdout_fraction: float = 0.1
    """Share of the training items the penalty is chosen on, in (0, 1)."""
    max_iterations: int = 300
    """Limit on L-BFGS iterations per fit."""
    seed: int = 0
    """Seed of the held-out share."""

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if not self.l2_grid or min(self.l2_grid) <= 0:
            raise ValueError(f"l2_grid ({self.l2_grid}) must hold at least one penalty, each above 0")
        if not 0 < self.holdout_fraction < 1:
            raise ValueError(f"holdout_fraction ({self.holdout_fraction}) must lie in (0, 1); 0.1 is usual")


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What the probe says of the test items."""

    predictions: NDArray[np.int64]
    """`[m]`."""
    l2: float
    """The penalty chosen."""
    converged: bool
    """Whether the final fit ended before its iteration limit."""


def fit_linear_probe(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    test_features: NDArray[np.float32],
    config: LinearProbe | None = None,
) -> ProbeResult:
    """Fits the probe on training features and predicts the test items.

    Args:
        features: `[n, d]`, from the frozen encoder in eval mode.
        labels: `[n]`, at least two classes.
        test_features: `[m, d]`.
        config: Penalties, held-out share, seed.

    Returns:
        Predictions with the penalty that was chosen.

    Raises:
        ValueError: There are fewer than two classes, or too few items to hold any out.

    Source: Kornblith et al. 2019, arXiv:1805.08974 (L-BFGS on cached features). Differs: standardised, a shorter grid.
    """
    config = config or LinearProbe()
    l2 = config.l2_grid[0] if len(config.l2_grid) == 1 else _choose_l2(features, labels, config)
    if len(np.unique(labels)) < 2:
        raise ValueError(f"a probe needs at least two classes, got {len(labels)} items of one")
    mean, scale = _statistics(features)
    model = _new_model(config)
    converged = _fit(model, (features - mean) / scale, labels, l2)
    predictions: NDArray[np.int64] = model.predict((test_features - mean) / scale).astype(np.int64)
    return ProbeResult(predictions, l2, converged)


def _choose_l2(features: NDArray[np.float32], labels: NDArray[np.int64], config: LinearProbe) -> float:
    """Returns the penalty with the highest held-out accuracy; the larger one among equals."""
    held_out = np.zeros(len(labels), dtype=np.bool_)
    count = round(len(labels) * config.holdout_fraction)
    held_out[np.random.default_rng(config.seed).permutation(len(labels))[:count]] = True
    if count == 0 or len(np.unique(labels[~held_out])) < 2:
        raise ValueError(
            f"a probe needs at least two classes and ten items, got {len(labels)} items to fit and hold out"
        )
    mean, scale = _statistics(features[~held_out])
    kept, rest = (features[~held_out] - mean) / scale, (features[held_out] - mean) / scale
    model = _new_model(config)
    accuracies: dict[float, float] = {}
    for l2 in sorted(config.l2_grid, reverse=True):  # each fit starts where the stronger penalty's ended
        _fit(model, kept, labels[~held_out], l2)
        accuracies[l2] = float((model.predict(rest) == labels[held_out]).mean())
    return max(accuracies, key=lambda l2: (accuracies[l2], l2))


def _statistics(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    scale = features.std(axis=0, dtype=np.float64)
    return features.mean(axis=0, dtype=np.float64).astype(np.float32), np.where(scale > 0, scale, 1).astype(np.float32)


def _new_model(config: LinearProbe) -> LogisticRegression:
    return LogisticRegression(solver="lbfgs", max_iter=config.max_iterations, warm_start=True)


def _fit(model: LogisticRegression, features: NDArray[np.float32], labels: NDArray[np.int64], l2: float) -> bool:
    model.set_params(C=1.0 / (l2 * len(labels)))  # scikit-learn weighs the summed loss, not the penalty
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # reported as `converged` instead
        model.fit(features, labels)
    return bool(model.n_iter_.max() < model.max_iter)

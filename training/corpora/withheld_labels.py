"""Which labels a training may see: as many of every class, or a share of each; the rest are withheld."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.run_config import LabelConfig

__all__ = ["withhold_labels"]


def withhold_labels(labels: NDArray[np.int64], config: LabelConfig) -> NDArray[np.int64]:
    """Withholds what a training may not see.

    The choice depends on the labels, their order and the seed alone, so that methods are compared on the same ones.

    Args:
        labels: `[n]`, -1 where there is none.
        config: How many are shown.

    Returns:
        `[n]`: the shown labels, and -1 elsewhere; without a budget all are shown.

    Raises:
        ValueError: A class has fewer labels than are to be shown, or there is no label at all.
    """
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    if not len(classes):
        raise ValueError("no training image has a label; name folders by class, or use a method that needs none")
    if config.labels_per_class is None and config.label_fraction is None:
        return labels
    if config.labels_per_class is not None and counts.min() < config.labels_per_class:
        raise ValueError(
            f"--labels-per-class ({config.labels_per_class}) must be <= the labelled training images of every class; "
            f"class {classes[counts.argmin()]} has {counts.min()}"
        )
    rng = np.random.default_rng([config.label_seed, 0x6C6162])
    shown = np.full_like(labels, -1)
    for name, count in zip(classes, counts, strict=True):
        budget = config.labels_per_class or max(1, round((config.label_fraction or 0) * count))
        chosen = rng.permutation(np.flatnonzero(labels == name))[:budget]
        shown[chosen] = name
    return shown

"""A linear probe on a few labels of every class, over several draws of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.corpora.withheld_labels import withhold_labels
from training.evaluation.linear_probe import LinearProbe, fit_linear_probe
from training.run_config import LabelConfig

__all__ = ["few_label_hits"]

_TOO_FEW_TO_CHOOSE = 50
"""Labels below which none is spared to choose the penalty on."""
_FIXED = LinearProbe(l2_grid=(0.1,))


def few_label_hits(
    bank: tuple[NDArray[np.float32], NDArray[np.int64]],
    queries: tuple[NDArray[np.float32], NDArray[np.int64]],
    *,
    shown: LabelConfig,
    draws: int,
    probe: LinearProbe,
) -> NDArray[np.float64]:
    """Fits a probe for each draw of labels and asks it for the queries' labels.

    Which labels are drawn depends on the bank's labels and the draw's number alone, so that every encoder is asked on
    the same ones.

    Args:
        bank: Vectors `[n, d]` and labels `[n]` of the training items, all labelled.
        queries: Vectors `[m, d]` and labels `[m]`.
        shown: How many labels are drawn, of every class or as a share of each; its seed is not used.
        draws: How often.
        probe: How probes are fitted; where labels are fewer than 50 the penalty is 0.1 rather than chosen.

    Returns:
        `[draws, m]`: 1 where a query's label was predicted.

    Raises:
        ValueError: A class has fewer labels than are to be drawn.
    """
    vectors, labels = bank
    hits = []
    for draw in range(draws):
        drawn = withhold_labels(labels, replace(shown, label_seed=draw)) >= 0
        settings = probe if drawn.sum() >= _TOO_FEW_TO_CHOOSE else _FIXED
        result = fit_linear_probe(vectors[drawn], labels[drawn], queries[0], settings)
        hits.append(result.predictions == queries[1])
    return np.stack(hits).astype(np.float64)

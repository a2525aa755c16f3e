"""The figures that every set of ranks is told by: MRR and recalls."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from training.evaluation.measurement import Measurement, PerQuery
from training.evaluation.results import Parameter

__all__ = ["CUTOFFS", "measure_ranks"]

CUTOFFS = (1, 5, 10)
"""The k of R@k."""


def measure_ranks(
    ranks: NDArray[np.int64],
    clusters: NDArray[np.int64] | None,
    *,
    task: str,
    parameters: Mapping[str, Parameter],
    n_gallery: int,
    layer: str | None = None,
) -> list[Measurement]:
    """Turns ranks into MRR, R@1, R@5 and R@10.

    Args:
        ranks: `[m]`, from 1.
        clusters: `[m]`: cluster of each query; None where each is its own.
        task: What was asked.
        parameters: Settings beyond the task's name.
        n_gallery: Items an answer was looked for among.
        layer: What was compared, where it is not what the subject serves.

    Returns:
        The four figures, with values per query.
    """
    per_query = {"mrr": 1.0 / ranks} | {f"recall@{k}": (ranks <= k).astype(np.float64) for k in CUTOFFS}
    return [
        Measurement(
            task=task,
            metric=metric,
            outcome=PerQuery(values, clusters),
            parameters=parameters,
            layer=layer,
            n_gallery=n_gallery,
            n_query=len(ranks),
        )
        for metric, values in per_query.items()
    ]

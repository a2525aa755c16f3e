"""How a set of vectors lies, whatever they are vectors of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.evaluation.alignment_uniformity import uniformity
from training.evaluation.measurement import Measurement
from training.evaluation.rankme import rankme
from training.evaluation.results import Parameter

__all__ = ["measure_spread"]


def measure_spread(vectors: NDArray[np.float32]) -> list[Measurement]:
    """Measures uniformity and, where there are at least as many vectors as dimensions, RankMe.

    Args:
        vectors: `[n, d]`, at least two.

    Returns:
        One or two figures.
    """
    count, width = vectors.shape
    found = [Measurement(task="geometry", metric="uniformity", outcome=uniformity(vectors), n_query=count)]
    if count >= width:
        # Bounded by the width, so that another width is another measure.
        settings: dict[str, Parameter] = {"width": width}
        rank = rankme(vectors)
        found.append(Measurement(task="geometry", metric="rankme", outcome=rank, parameters=settings, n_query=count))
    return found

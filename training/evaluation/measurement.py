"""One figure as it is computed: the value with what its interval and its comparisons are drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.evaluation.bootstrap import BootstrapConfig, cluster_interval
from training.evaluation.results import Parameter

__all__ = ["Measurement", "PerQuery", "TaskUnavailableError"]


class TaskUnavailableError(ValueError):
    """The data, or the subject, has not what a task needs; the message says what."""


@dataclass(frozen=True, slots=True)
class PerQuery:
    """A value for each query; the figure is their mean."""

    values: NDArray[np.float64]
    """`[n_query]`."""
    clusters: NDArray[np.int64] | None = None
    """`[n_query]`: document or group of each query; None where each is its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """A metric's outcome for one subject."""

    task: str
    metric: str
    outcome: PerQuery | float
    """Per query where the figure is a mean, which gives it an interval; else the figure."""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    layer: str | None = None
    """What was compared, where it is not what the subject serves."""
    n_gallery: int = 0
    n_query: int
    labels_used: int = 0

    @property
    def value(self) -> float:
        """The figure."""
        return self.outcome if isinstance(self.outcome, float) else float(self.outcome.values.mean())

    @property
    def key(self) -> tuple[str, str, tuple[tuple[str, Parameter], ...]]:
        """What two subjects' measurements must share to be compared."""
        return self.task, self.metric, tuple(self.parameters.items())

    def interval(self, config: BootstrapConfig) -> tuple[float, float] | None:
        """Draws the bootstrap interval.

        Args:
            config: How it is drawn.

        Returns:
            Its ends, or None where the figure is no mean over queries.
        """
        if isinstance(self.outcome, float):
            return None
        drawn = cluster_interval(self.outcome.values, self.outcome.clusters, config)
        return drawn.low, drawn.high

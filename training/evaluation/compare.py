"""Compares subjects on the same queries: who beats whom, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from training.evaluation.bootstrap import BootstrapConfig, Difference, paired_difference
from training.evaluation.measurement import Measurement, PerQuery

__all__ = ["average_seeds", "compare_measurements"]


def compare_measurements(
    measurement: Measurement, other: Measurement, config: BootstrapConfig | None = None
) -> Difference:
    """Returns by how much one subject's figure exceeds another's, paired by query, with its 95 % interval.

    Args:
        measurement: The subject's.
        other: The other's, of the same task, metric and settings on the same data.
        config: How the interval is drawn.

    Returns:
        The difference; `beats` says whether its interval lies above 0.

    Raises:
        ValueError: The two measure different things, or are no means over queries.
    """
    if measurement.key != other.key:
        raise ValueError(f"cannot compare {measurement.key} with {other.key}: they are different measures")
    if not isinstance(measurement.outcome, PerQuery) or not isinstance(other.outcome, PerQuery):
        raise ValueError(f"{measurement.metric} is no mean over queries, so differences have no paired interval")
    return paired_difference(measurement.outcome.values, other.outcome.values, measurement.outcome.clusters, config)


def average_seeds(runs: Sequence[Measurement]) -> Measurement:
    """Averages each query's value over runs that differ only in their seed.

    Args:
        runs: One measurement a seed, at least one, of the same measure on the same queries.

    Returns:
        The mean; its interval is over queries, for these seeds.

    Raises:
        ValueError: There is no run, or they measure different things.
    """
    if not runs or any(run.key != runs[0].key for run in runs):
        raise ValueError("seeds can be averaged only over runs of one measure, at least one")
    if not isinstance(runs[0].outcome, PerQuery):
        return replace(runs[0], outcome=float(np.mean([run.value for run in runs])))
    outcomes = [run.outcome for run in runs if isinstance(run.outcome, PerQuery)]
    values = np.stack([outcome.values for outcome in outcomes]).mean(axis=0)
    return replace(runs[0], outcome=PerQuery(values, runs[0].outcome.clusters))

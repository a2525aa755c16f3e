"""Intervals by resampling whole clusters: sentences of one document do not vote independently.

A "cluster" is a document, a concept group, or a single item where items are independent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["BootstrapConfig", "Difference", "Interval", "cluster_interval", "paired_difference"]

_CELLS_PER_BLOCK = 4_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class BootstrapConfig:
    """How intervals are drawn."""

    resamples: int = 2000
    """Resamples, at least 100."""
    confidence: float = 0.95
    """Share of resamples inside the interval, in (0, 1)."""
    seed: int = 0
    """Seed of the resampling; one seed gives one interval."""

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if self.resamples < 100:
            raise ValueError(f"resamples ({self.resamples}) must be at least 100; 2000 is usual")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence ({self.confidence}) must lie in (0, 1); 0.95 is usual")


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and where its resamples lie."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """How much one subject's values exceed another's on the same queries."""

    mean: float
    low: float
    high: float

    @property
    def beats(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low > 0


def cluster_interval(
    values: NDArray[np.float64], clusters: NDArray[np.int64] | None = None, config: BootstrapConfig | None = None
) -> Interval:
    """Returns the mean of per-query values and its percentile interval over resampled clusters.

    Args:
        values: `[n]`: one value a query, such as 1 / rank or 0 and 1.
        clusters: `[n]`: the cluster of each query; None where every query is its own.
        config: How intervals are drawn.

    Returns:
        The mean over queries with its interval.

    Raises:
        ValueError: There is no value, or the lengths differ.

    Source: Efron & Tibshirani 1993, ch. 13 (percentile interval); Cameron, Gelbach & Miller 2008 (clusters).
    """
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"a bootstrap needs a flat array of at least one value, got shape {values.shape}")
    if clusters is not None and clusters.shape != values.shape:
        raise ValueError(f"each value needs its cluster, got {values.shape} values and {clusters.shape} clusters")
    means = _resampled_means(values, clusters, config or BootstrapConfig())
    low, high = _percentiles(means, config or BootstrapConfig())
    return Interval(float(np.mean(values)), low, high)


def paired_difference(
    values: NDArray[np.float64],
    others: NDArray[np.float64],
    clusters: NDArray[np.int64] | None = None,
    config: BootstrapConfig | None = None,
) -> Difference:
    """Returns the mean of `values - others`, query by query, with its interval over resampled clusters.

    For a mean of several seeds, average each query's values over the seeds first.

    Args:
        values: `[n]`: the subject's value on each query.
        others: `[n]`: the other's value on the same queries, in the same order.
        clusters: `[n]`: the cluster of each query; None where every query is its own.
        config: How intervals are drawn.

    Returns:
        The difference; `beats` says whether its interval lies above 0.

    Raises:
        ValueError: There is no value, or the lengths differ.

    Source: Efron & Tibshirani 1993, ch. 13; Koehn 2004 (paired bootstrap resampling).
    """
    if values.shape != others.shape:
        raise ValueError(f"paired values must match query by query, got shapes {values.shape} and {others.shape}")
    interval = cluster_interval(values - others, clusters, config)
    return Difference(interval.mean, interval.low, interval.high)


def _resampled_means(
    values: NDArray[np.float64], clusters: NDArray[np.int64] | None, config: BootstrapConfig
) -> NDArray[np.float64]:
    labels = np.arange(len(values)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    sizes = np.bincount(labels).astype(np.float64)  # [c]
    sums = np.bincount(labels, weights=values)  # [c]
    return np.concatenate([(draws @ sums) / (draws @ sizes) for draws in _draws(len(sizes), config)])


def _draws(cluster_count: int, config: BootstrapConfig) -> Iterator[NDArray[np.float64]]:
    """Yields how often each resample holds each cluster, `[r, c]`, in blocks of bounded memory."""
    rng = np.random.default_rng(config.seed)
    block = max(1, _CELLS_PER_BLOCK // cluster_count)
    for start in range(0, config.resamples, block):
        rows = min(block, config.resamples - start)
        picks = rng.integers(cluster_count, size=(rows, cluster_count))
        offsets = picks + np.arange(rows)[:, None] * cluster_count
        counts = np.bincount(offsets.ravel(), minlength=rows * cluster_count)
        yield counts.reshape(rows, cluster_count).astype(np.float64)


def _percentiles(means: NDArray[np.float64], config: BootstrapConfig) -> tuple[float, float]:
    tail = (1 - config.confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)

"""Intervals against the normal theory, and clusters against single values."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.bootstrap import BootstrapConfig, cluster_interval, paired_difference


def test_interval_agrees_with_the_normal_one_for_independent_values() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, size=900)
    interval = cluster_interval(values, config=BootstrapConfig(resamples=4000))
    half = 1.96 * values.std() / 30
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.02)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.02)


def test_clusters_of_equal_values_widen_the_interval_by_the_root_of_their_size() -> None:
    per_cluster = np.random.default_rng(1).normal(size=100)
    values, clusters = np.repeat(per_cluster, 25), np.repeat(np.arange(100), 25)
    clustered, naive = cluster_interval(values, clusters), cluster_interval(values)
    ratio = (clustered.high - clustered.low) / (naive.high - naive.low)
    assert ratio == pytest.approx(5.0, rel=0.1)


def test_unequal_clusters_weigh_by_their_queries() -> None:
    values, clusters = np.array([1.0, 1.0, 1.0, 0.0]), np.array([7, 7, 7, 9])
    interval = cluster_interval(values, clusters)
    assert (interval.mean, interval.low, interval.high) == (0.75, 0.0, 1.0)
    # One of each cluster is the middle outcome: three of its four queries are right, not one of two clusters.
    middle = cluster_interval(values, clusters, BootstrapConfig(confidence=0.01))
    assert (middle.low, middle.high) == (0.75, 0.75)


def test_pairing_removes_what_both_share() -> None:
    shared = np.random.default_rng(2).normal(0, 10, size=200)
    difference = paired_difference(shared + 0.5, shared)
    assert difference.low == pytest.approx(0.5)
    assert difference.high == pytest.approx(0.5)
    assert difference.beats


def test_equal_subjects_do_not_beat_each_other() -> None:
    values = np.random.default_rng(3).random(50)
    assert not paired_difference(values, values).beats


def test_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(4).random(300)
    assert cluster_interval(values) == cluster_interval(values)
    assert cluster_interval(values, config=BootstrapConfig(seed=1)) != cluster_interval(values)


def test_confidence_widens_the_interval() -> None:
    values = np.random.default_rng(5).random(300)
    wide = cluster_interval(values, config=BootstrapConfig(confidence=0.99))
    narrow = cluster_interval(values, config=BootstrapConfig(confidence=0.5))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_unpaired_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="query by query"):
        paired_difference(np.zeros(3), np.zeros(4))


def test_no_values_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        cluster_interval(np.zeros(0))


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="resamples"):
        BootstrapConfig(resamples=5)
    with pytest.raises(ValueError, match="confidence"):
        BootstrapConfig(confidence=1.0)

"""The probe on problems whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from training.evaluation import linear_probe
from training.evaluation.linear_probe import LinearProbe, fit_linear_probe


def blobs(count: int, *, seed: int, spread: float = 0.3) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
    labels = rng.integers(0, 3, size=count)
    return (centres[labels] + rng.normal(0, spread, size=(count, 2))).astype(np.float32), labels


def test_separable_classes_are_all_found() -> None:
    features, labels = blobs(300, seed=0)
    test_features, test_labels = blobs(100, seed=1)
    result = fit_linear_probe(features, labels, test_features)
    assert (result.predictions == test_labels).mean() == 1.0
    assert result.converged


def test_scale_and_shift_of_features_do_not_matter() -> None:
    features, labels = blobs(200, seed=2, spread=1.2)
    test_features, _ = blobs(80, seed=3, spread=1.2)
    moved = [array * np.array([1000.0, 1e-3], dtype=np.float32) + 50 for array in (features, test_features)]
    plain = fit_linear_probe(features, labels, test_features)
    assert np.array_equal(plain.predictions, fit_linear_probe(moved[0], labels, moved[1]).predictions)


def test_penalty_is_the_one_of_the_mean_loss() -> None:
    # Two opposite points: the fitted weight w minimises log(1 + exp(-w)) + l2 / 2 w², found here on a grid.
    features = np.array([[1.0], [-1.0]] * 50, dtype=np.float32)
    labels = np.array([1, 0] * 50)
    l2, grid = 0.1, np.linspace(0, 5, 50_001)
    best = grid[np.argmin(np.log1p(np.exp(-grid)) + l2 / 2 * grid**2)]
    model = linear_probe._new_model(LinearProbe())
    linear_probe._fit(model, features, labels, l2)
    assert float(model.coef_[0, 0]) == pytest.approx(best, abs=2e-3)


def test_noise_features_are_given_a_strong_penalty() -> None:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, size=120)
    features = rng.normal(size=(120, 100)).astype(np.float32)
    features[:, 0] += 2.0 * labels  # one of a hundred says something
    result = fit_linear_probe(features, labels, features)
    assert result.l2 >= 1e-2


def test_test_labels_cannot_be_seen_and_test_statistics_are_not_used() -> None:
    features, labels = blobs(200, seed=5)
    test_features, _ = blobs(50, seed=6)
    alone = fit_linear_probe(features, labels, test_features[:1]).predictions
    among = fit_linear_probe(features, labels, test_features).predictions
    assert alone[0] == among[0]


def test_constant_feature_is_harmless() -> None:
    features, labels = blobs(200, seed=7)
    constant = np.full((200, 1), 5.0, dtype=np.float32)
    result = fit_linear_probe(np.hstack([features, constant]), labels, np.hstack([features, constant]))
    assert (result.predictions == labels).mean() > 0.99


def test_labels_keep_their_values() -> None:
    features, labels = blobs(100, seed=8)
    result = fit_linear_probe(features, labels * 7 + 3, features)
    assert set(result.predictions.tolist()) == {3, 10, 17}


def test_one_class_is_refused() -> None:
    features, _ = blobs(50, seed=9)
    with pytest.raises(ValueError, match="at least two classes"):
        fit_linear_probe(features, np.zeros(50, dtype=np.int64), features)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="l2_grid"):
        LinearProbe(l2_grid=(0.0,))
    with pytest.raises(ValueError, match="holdout_fraction"):
        LinearProbe(holdout_fraction=1.0)

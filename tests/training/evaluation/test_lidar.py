from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.lidar import lidar


def views(directions: np.ndarray, noise: np.ndarray, *, images: int = 4000, seed: int = 0) -> np.ndarray:
    """Images spread by `directions` per dimension, views of one about it by `noise`."""
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((images, 1, len(directions))) * directions
    drawn: np.ndarray = means + rng.standard_normal((images, 8, len(noise))) * noise
    return drawn.astype(np.float32)


def test_equal_ratios_count_every_direction() -> None:
    # Unequal spread does not matter, only spread between images over spread within them.
    found = lidar(views(np.array([1.0, 5.0, 0.2]), 0.5 * np.array([1.0, 5.0, 0.2])))
    assert found == pytest.approx(3, abs=0.02)


def test_directions_that_change_between_views_do_not_count() -> None:
    found = lidar(views(np.array([1.0, 1.0, 0.01, 0.01]), np.array([0.1, 0.1, 3.0, 3.0])))
    assert found == pytest.approx(2, abs=0.05)


def test_equals_the_generalised_eigenvalues() -> None:
    from scipy.linalg import eigh

    rows = views(np.array([2.0, 1.0, 0.5]), np.array([0.3, 0.6, 0.2]), images=50)
    exact = rows.astype(np.float64)
    means = exact.mean(axis=1)
    between = np.cov(means.T)
    within = sum(np.cov(image.T) for image in exact) / len(exact) + 1e-4 * np.eye(3)
    ratios = eigh(between, within, eigvals_only=True)
    shares = ratios / ratios.sum() + 1e-7
    assert lidar(rows) == pytest.approx(float(np.exp(-(shares * np.log(shares)).sum())), rel=1e-6)


def test_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two images of at least two views"):
        lidar(np.zeros((5, 1, 3), dtype=np.float32))
    with pytest.raises(ValueError, match="NaN"):
        lidar(np.full((5, 3, 3), np.nan, dtype=np.float32))

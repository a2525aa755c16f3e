"""Alignment and uniformity against worked numbers."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation import alignment_uniformity
from training.evaluation.alignment_uniformity import alignment, alignment_distances, uniformity

AXES = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=np.float32)


def test_alignment_of_orthogonal_pair_is_two() -> None:
    assert alignment(AXES[:1], AXES[1:2]) == pytest.approx(2.0)
    assert alignment(AXES[:1], AXES[1:2], exponent=1.0) == pytest.approx(2**0.5)


def test_alignment_of_coinciding_pairs_is_zero_whatever_their_length() -> None:
    assert alignment(AXES, AXES * 5) == pytest.approx(0.0, abs=1e-9)


def test_alignment_is_the_mean_over_pairs() -> None:
    assert alignment_distances(AXES[[0, 0]], AXES[[0, 2]]).tolist() == pytest.approx([0.0, 4.0])
    assert alignment(AXES[[0, 0]], AXES[[0, 2]]) == pytest.approx(2.0)


def test_uniformity_of_four_axis_points() -> None:
    assert uniformity(AXES) == pytest.approx(-4.396349, abs=1e-6)


def test_uniformity_of_a_collapsed_encoder_is_zero() -> None:
    assert uniformity(np.full((10, 3), 0.7, dtype=np.float32)) == pytest.approx(0.0, abs=1e-6)


def test_uniformity_equals_a_loop_over_pairs() -> None:
    vectors = np.random.default_rng(0).normal(size=(20, 4))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    potentials = [np.exp(-3 * ((unit[i] - unit[j]) ** 2).sum()) for i in range(20) for j in range(i)]
    assert uniformity(vectors.astype(np.float32), scale=3.0) == pytest.approx(np.log(np.mean(potentials)), abs=1e-6)


def test_large_sets_are_sampled_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment_uniformity, "MAX_UNIFORMITY_ITEMS", 50)
    vectors = np.random.default_rng(1).normal(size=(400, 3)).astype(np.float32)
    assert uniformity(vectors) == uniformity(vectors)
    assert uniformity(vectors) != uniformity(vectors, seed=1)
    assert uniformity(vectors) == pytest.approx(uniformity(vectors, seed=1), abs=0.5)


def test_unequal_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="row by row"):
        alignment(AXES, AXES[:2])


def test_too_few_items_are_refused() -> None:
    with pytest.raises(ValueError, match="two items"):
        uniformity(AXES[:1])
    with pytest.raises(ValueError, match="positive pair"):
        alignment(AXES[:0], AXES[:0])

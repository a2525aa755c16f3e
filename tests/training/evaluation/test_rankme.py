"""Effective ranks against worked numbers."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.rankme import effective_rank, rankme


@pytest.mark.parametrize(
    ("singular_values", "expected"), [((1.0, 1.0, 1.0, 1.0), 4.0), ((3.0, 1.0), 1.754765), ((2.0, 0.0, 0.0), 1.0)]
)
def test_effective_rank_of_known_spectra(singular_values: tuple[float, ...], expected: float) -> None:
    assert effective_rank(np.array(singular_values)) == pytest.approx(expected, abs=1e-5)


def test_rankme_of_orthogonal_directions_is_their_number() -> None:
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 4)))[0].astype(np.float32)
    assert rankme(basis) == pytest.approx(4.0, abs=1e-4)


def test_rankme_of_a_collapsed_encoder_is_one() -> None:
    assert rankme(np.full((100, 8), 0.5, dtype=np.float32)) == pytest.approx(1.0, abs=1e-4)


def test_rankme_is_not_centred() -> None:
    shifted = np.random.default_rng(1).normal(size=(500, 6)).astype(np.float32)
    assert rankme(shifted + 100) < 2 < rankme(shifted)


def test_rotation_and_scale_leave_rankme() -> None:
    rng = np.random.default_rng(2)
    vectors = (rng.normal(size=(200, 5)) * [1, 2, 3, 4, 5]).astype(np.float32)
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0].astype(np.float32)
    assert rankme(vectors @ rotation * 7) == pytest.approx(rankme(vectors), rel=1e-5)


def test_fewer_items_than_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="as many items as dimensions"):
        rankme(np.eye(3, 5, dtype=np.float32))


def test_zero_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="zero vectors only"):
        rankme(np.zeros((5, 3), dtype=np.float32))


def test_vectors_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        rankme(np.full((5, 3), np.nan, dtype=np.float32))

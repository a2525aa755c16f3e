from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.cka import linear_cka

ROWS = np.random.default_rng(0).standard_normal((300, 6)).astype(np.float32)


def test_a_turned_scaled_and_moved_copy_is_the_same() -> None:
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))[0]
    assert linear_cka(ROWS, (3 * ROWS @ rotation + 5).astype(np.float32)) == pytest.approx(1, abs=1e-6)


def test_a_stretch_is_not() -> None:
    stretched = (ROWS * np.array([10, 1, 1, 1, 1, 1])).astype(np.float32)
    gram = ROWS - ROWS.mean(0)
    other = stretched - stretched.mean(0)
    one, two = gram @ gram.T, other @ other.T
    expected = (one * two).sum() / np.sqrt((one * one).sum() * (two * two).sum())
    assert linear_cka(ROWS, stretched) == pytest.approx(float(expected), rel=1e-4)
    assert linear_cka(ROWS, stretched) < 0.8


def test_unrelated_features_share_little_and_widths_may_differ() -> None:
    other = np.random.default_rng(2).standard_normal((300, 4)).astype(np.float32)
    assert linear_cka(ROWS, other) < 0.05
    assert linear_cka(ROWS, other) == pytest.approx(linear_cka(other, ROWS))


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="got 300 and 299"):
        linear_cka(ROWS, ROWS[1:])
    with pytest.raises(ValueError, match="collapsed"):
        linear_cka(ROWS, np.ones((300, 2), dtype=np.float32))

from __future__ import annotations

import numpy as np
import pytest

from models.bundle.statistics import QUANTILES, summarise


def test_the_summary_equals_the_plain_formulas() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 5)).astype(np.float32) * np.array([3, 2, 1, 0.5, 0.1], np.float32)
    sizes = np.arange(200)

    found = summarise(vectors, source="here", input_sizes=sizes, truncated_fraction=0.25)

    covariance = np.cov(vectors.astype(np.float64), rowvar=False)
    values = np.linalg.eigvalsh(covariance)[::-1]
    shares = values / values.sum()
    assert found.mean == pytest.approx(vectors.mean(axis=0), abs=1e-6)
    assert found.total_variance == pytest.approx(np.trace(covariance))
    assert found.spectrum == pytest.approx(values, abs=1e-6)
    assert found.effective_rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert found.input_size == pytest.approx(np.quantile(sizes, QUANTILES))
    mean = vectors.mean(axis=0)
    cosine = vectors @ mean / np.linalg.norm(vectors, axis=1) / np.linalg.norm(mean)
    assert found.centroid_cosine == pytest.approx(np.quantile(cosine, QUANTILES), abs=1e-5)
    assert (found.sample_count, found.truncated_fraction, found.brightness) == (200, 0.25, ())


def test_collapsed_vectors_have_rank_one_and_no_variance() -> None:
    vectors = np.tile(np.array([0.6, 0.8], np.float32), (5, 1))
    found = summarise(vectors, source="here", input_sizes=np.ones(5, np.int64), brightness=np.full(5, 0.5))
    assert found.total_variance == pytest.approx(0, abs=1e-12)
    assert found.effective_rank == pytest.approx(1)
    assert found.centroid_cosine == pytest.approx((1.0,) * 7)
    assert found.brightness == (0.5,) * 7


def test_one_vector_is_no_sample() -> None:
    with pytest.raises(ValueError, match="at least 2 inputs, not 1"):
        summarise(np.ones((1, 2), np.float32), source="here", input_sizes=np.ones(1, np.int64))

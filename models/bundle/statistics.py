"""What vectors and inputs looked like at export: the reference that those in service are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["QUANTILES", "ReferenceStatistics", "summarise"]

QUANTILES: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Which quantiles are kept of every distribution."""

_SPECTRUM: Final = 32
_DECIMALS: Final = 7


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceStatistics:
    """A sample's vectors and inputs, summarised."""

    sample_count: int
    source: str
    """What the sample was taken from."""
    mean: tuple[float, ...]
    """Mean vector, `dimension` long."""
    total_variance: float
    """Trace of the covariance."""
    spectrum: tuple[float, ...]
    """Its largest eigenvalues, at most 32, falling."""
    effective_rank: float
    """Exponential of the entropy of the covariance's spectrum; 1 when collapsed, at most `dimension`."""
    centroid_cosine: tuple[float, ...]
    """Quantiles (`QUANTILES`) of the cosine between a vector and the mean."""
    input_size: tuple[float, ...]
    """Quantiles of the inputs' sizes: tokens of a text, pixels of an image as it came."""
    truncated_fraction: float
    """Share of texts cut to the limit; 0 for images."""
    brightness: tuple[float, ...] = ()
    """Quantiles of the images' mean value, in [0, 1]; empty for texts."""


def summarise(
    vectors: NDArray[np.float32],
    *,
    source: str,
    input_sizes: NDArray[np.int64],
    truncated_fraction: float = 0.0,
    brightness: NDArray[np.float64] | None = None,
) -> ReferenceStatistics:
    """Summarises a sample.

    Args:
        vectors: `[n, d]`, n at least 2.
        source: What the sample was taken from.
        input_sizes: `[n]`: tokens or pixels of each input.
        truncated_fraction: Share of the texts that were cut.
        brightness: `[n]`: mean value of each image in [0, 1]; None for texts.

    Returns:
        The summary.

    Raises:
        ValueError: There are fewer than two vectors.
    """
    if len(vectors) < 2:
        raise ValueError(f"a reference sample needs at least 2 inputs, not {len(vectors)}")
    exact = vectors.astype(np.float64)
    mean = exact.mean(axis=0)
    centred = exact - mean
    # Singular values of the centred sample: the covariance's spectrum without forming a [d, d] matrix.
    spectrum = np.linalg.svd(centred, compute_uv=False) ** 2 / (len(exact) - 1)
    norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(mean)
    cosine = (exact @ mean) / np.maximum(norms, np.finfo(np.float64).tiny)
    return ReferenceStatistics(
        sample_count=len(vectors),
        source=source,
        mean=_rounded(mean),
        total_variance=float(spectrum.sum()),
        spectrum=_rounded(spectrum[:_SPECTRUM]),
        effective_rank=_effective_rank(spectrum),
        centroid_cosine=_quantiles(cosine),
        input_size=_quantiles(input_sizes),
        truncated_fraction=truncated_fraction,
        brightness=() if brightness is None else _quantiles(brightness),
    )


def _effective_rank(spectrum: NDArray[np.float64]) -> float:
    total = spectrum.sum()
    if total <= 0:
        return 1.0
    shares = spectrum[spectrum > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _quantiles(values: NDArray[np.float64] | NDArray[np.int64]) -> tuple[float, ...]:
    return _rounded(np.quantile(values, QUANTILES))


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(value), _DECIMALS) for value in values)

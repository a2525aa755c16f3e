"""One number of threads for everything that computes in this process."""

from __future__ import annotations

import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

__all__ = ["limit_threads"]


def limit_threads(count: int) -> None:
    """Limits torch, and the BLAS and OpenMP libraries that numpy, scipy and scikit-learn call, for good.

    torch's own setting leaves numpy's BLAS at one thread a core, which spin against each other on a busy machine.

    Args:
        count: Threads, at least 1.

    Raises:
        ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"threads ({count}) must be at least 1")
    torch.set_num_threads(count)
    threadpool_limits(limits=count)

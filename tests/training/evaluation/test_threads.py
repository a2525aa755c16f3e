"""One number of threads reaches every library."""

from __future__ import annotations

import pytest
import torch
from threadpoolctl import threadpool_info  # type: ignore[import-untyped]  # ships no types

from training.evaluation.threads import limit_threads


def test_torch_and_blas_are_limited() -> None:
    before = torch.get_num_threads()
    try:
        limit_threads(1)
        assert torch.get_num_threads() == 1
        assert {library["num_threads"] for library in threadpool_info()} == {1}
    finally:
        limit_threads(before)


def test_no_threads_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match=r"threads \(0\) must be at least 1"):
        limit_threads(0)

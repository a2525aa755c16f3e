from __future__ import annotations

import pytest
import torch
from lightly.loss import BarlowTwinsLoss  # type: ignore[import-untyped]  # ships no types

from training.methods.image.barlow_twins import barlow_twins_loss


@pytest.mark.parametrize("weight", [0.0051, 0.1])
def test_loss_equals_lightly(weight: float) -> None:
    first, noise = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0))
    second = first + noise
    expected = BarlowTwinsLoss(lambda_param=weight)(first, second)
    torch.testing.assert_close(
        barlow_twins_loss(first, second, redundancy_weight=weight), expected, atol=1e-5, rtol=1e-5
    )

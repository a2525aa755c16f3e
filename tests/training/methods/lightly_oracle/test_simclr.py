from __future__ import annotations

import pytest
import torch
from lightly.loss import NTXentLoss  # type: ignore[import-untyped]  # ships no types

from training.methods.image.simclr import nt_xent_loss


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_loss_equals_lightly(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 16, 8, generator=generator)
    expected = NTXentLoss(temperature=temperature)(first, second)
    torch.testing.assert_close(nt_xent_loss(first, second, temperature=temperature), expected, atol=1e-5, rtol=1e-5)

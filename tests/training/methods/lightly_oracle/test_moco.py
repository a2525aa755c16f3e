from __future__ import annotations

import pytest
import torch
from lightly.loss import NTXentLoss  # type: ignore[import-untyped]  # ships no types
from torch.nn import functional as F

from training.methods.image.moco import moco_loss


@pytest.mark.parametrize("temperature", [0.1, 0.2])
def test_loss_equals_lightly(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys = (F.normalize(torch.randn(16, 8, generator=generator), dim=1) for _ in range(2))
    criterion = NTXentLoss(temperature=temperature, memory_bank_size=(64, 8))
    queue = criterion.memory_bank.bank.clone()
    expected = criterion(queries.requires_grad_(), keys)
    torch.testing.assert_close(moco_loss(queries, keys, queue, temperature=temperature), expected, atol=1e-5, rtol=1e-5)

from __future__ import annotations

import torch
from lightly.models.modules import NNMemoryBankModule  # type: ignore[import-untyped]  # ships no types
from torch.nn import functional as F

from training.losses.neighbours import nearest_neighbours


def test_neighbours_equal_lightly() -> None:
    rows = F.normalize(torch.randn(16, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    bank = NNMemoryBankModule(size=(64, 8))
    queue = bank.bank.clone()
    found = queue[nearest_neighbours(rows, queue, count=1).slots[:, 0]]
    torch.testing.assert_close(found, bank(rows, update=False))

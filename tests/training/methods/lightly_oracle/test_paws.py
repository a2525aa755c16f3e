from __future__ import annotations

import math

import pytest
import torch
from lightly.loss import MSNLoss  # type: ignore[import-untyped]  # ships no types

from training.methods.image.paws import consistency_loss, entropy, sharpen, soft_nearest_neighbours


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_parts_equal_those_of_lightly_s_msn(temperature: float) -> None:
    # MSN is PAWS with prototypes for supports, each a class of its own; its mean is over unsharpened predictions.
    generator = torch.Generator().manual_seed(0)
    anchors, targets, prototypes = (torch.randn(count, 8, generator=generator) for count in (16, 16, 6))
    own, others = (
        soft_nearest_neighbours(rows, prototypes, torch.eye(6), temperature=temperature) for rows in (anchors, targets)
    )
    found = consistency_loss(own, sharpen(others, temperature=0.25)) - entropy(own.mean(dim=0)) + math.log(6)
    expected = MSNLoss(temperature=temperature, sinkhorn_iterations=0)(anchors, targets, prototypes)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)

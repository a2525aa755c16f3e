from __future__ import annotations

import torch
from lightly.loss import NegativeCosineSimilarity  # type: ignore[import-untyped]  # ships no types

from training.losses.cosine import negative_cosine_loss, normalised_distance_loss


def test_losses_equal_lightly() -> None:
    predictions, targets = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0))
    expected = NegativeCosineSimilarity()(predictions, targets)
    torch.testing.assert_close(negative_cosine_loss(predictions, targets), expected, atol=1e-5, rtol=1e-5)
    distance = normalised_distance_loss(predictions, targets)
    torch.testing.assert_close(distance, 2 + 2 * expected, atol=1e-5, rtol=1e-5)

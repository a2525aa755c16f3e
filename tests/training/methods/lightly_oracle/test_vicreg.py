from __future__ import annotations

import torch
from lightly.loss import VICRegLoss  # type: ignore[import-untyped]  # ships no types

from training.methods.image.vicreg import vicreg_loss


def test_loss_equals_lightly() -> None:
    first, noise = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0))
    second = 0.5 * (first + noise)
    torch.testing.assert_close(vicreg_loss(first, second), VICRegLoss()(first, second), atol=1e-5, rtol=1e-5)
    expected = VICRegLoss(lambda_param=2.0, mu_param=3.0, nu_param=5.0)(first, second)
    loss = vicreg_loss(first, second, invariance_weight=2, variance_weight=3, covariance_weight=5)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)

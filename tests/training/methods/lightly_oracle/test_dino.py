from __future__ import annotations

import pytest
import torch
from lightly.loss import DINOLoss  # type: ignore[import-untyped]  # ships no types

from training.methods.image.dino import dino_loss, dino_targets


@pytest.mark.parametrize("temperature", [0.04, 0.07])
def test_loss_equals_lightly(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(5, 16, 12, generator=generator), torch.randn(2, 16, 12, generator=generator)
    centre = torch.randn(12, generator=generator)
    oracle = DINOLoss(output_dim=12, student_temp=0.1)
    oracle.center.copy_(centre)
    expected = oracle(list(teacher), list(student), teacher_temp=temperature)
    targets = dino_targets(teacher, centre, temperature=temperature)
    torch.testing.assert_close(dino_loss(student, targets, temperature=0.1), expected, atol=1e-5, rtol=1e-5)

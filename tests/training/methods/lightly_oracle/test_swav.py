from __future__ import annotations

import pytest
import torch
from lightly.loss import SwaVLoss  # type: ignore[import-untyped]  # ships no types
from lightly.loss.swav_loss import sinkhorn as lightly_sinkhorn  # type: ignore[import-untyped]  # ships no types

from training.methods.image.swav import sinkhorn, swav_loss


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_codes_equal_lightly(iterations: int) -> None:
    scores = torch.rand(12, 7, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = lightly_sinkhorn(scores, iterations=iterations, epsilon=0.05)
    torch.testing.assert_close(sinkhorn(scores, epsilon=0.05, iterations=iterations), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("small_views", [0, 3])
@pytest.mark.parametrize("queued", [0, 20])
def test_loss_equals_lightly(queued: int, small_views: int) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(2 + small_views, 12, 7, generator=generator) * 2 - 1
    queue = torch.rand(2, queued, 7, generator=generator) * 2 - 1
    expected = SwaVLoss()(list(scores[:2]), list(scores[2:]), list(queue) if queued else None)
    codes = torch.stack(
        [sinkhorn(torch.cat([scores[view], queue[view]]), epsilon=0.05, iterations=3)[:12] for view in range(2)]
    )
    # lightly's is a tensor of one value.
    torch.testing.assert_close(swav_loss(scores, codes, temperature=0.1), expected.squeeze(), atol=1e-5, rtol=1e-5)

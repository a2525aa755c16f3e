from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as reference  # type: ignore[import-untyped]  # ships no types

from training.views.blur import blur_matrix, gaussian_blur


@pytest.mark.parametrize(("size", "radius"), [(9, 1), (9, 4), (9, 8), (16, 5)])
def test_each_image_is_blurred_as_torchvision_does(size: int, radius: int) -> None:
    sigmas = [0.3, 1.0, 2.5]
    images = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    blurred = gaussian_blur(images, torch.tensor(sigmas), radius=radius)
    for image, sigma, result in zip(images, sigmas, blurred, strict=True):
        kernel = [2 * radius + 1, 2 * radius + 1]
        torch.testing.assert_close(result, reference.gaussian_blur(image, kernel, [sigma, sigma]), atol=2e-6, rtol=0)


def test_a_tiny_width_changes_nothing() -> None:
    torch.testing.assert_close(blur_matrix(torch.tensor([0.014]), size=6, radius=2)[0], torch.eye(6))

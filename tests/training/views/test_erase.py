from __future__ import annotations

import torch
from torchvision.transforms.v2 import functional as reference  # type: ignore[import-untyped]  # ships no types

from training.views.erase import erase

BOXES = [(0, 0, 3, 4), (5, 2, 4, 9), (8, 10, 1, 1), (0, 0, 9, 11), (2, 3, 0, 5), (0, 0, 0, 0)]


def test_each_images_rectangle_is_erased_as_torchvision_does() -> None:
    images = torch.randn(len(BOXES), 3, 9, 11, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    erased = erase(images, torch.tensor(BOXES).float())
    for image, (top, left, height, width), result in zip(images, BOXES, erased, strict=True):
        expected = reference.erase(image, top, left, height, width, torch.zeros(1))
        torch.testing.assert_close(result, expected, atol=0, rtol=0)
    torch.testing.assert_close(images, before, atol=0, rtol=0)
    assert (erased == 0).sum(dim=(1, 2, 3)).tolist() == [3 * height * width for _, _, height, width in BOXES]

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference  # type: ignore[import-untyped]  # ships no types

from training.views.resize import crop_resize, interpolation_matrix

BOXES = [(0, 0, 40, 48), (3, 5, 20, 31), (10, 0, 7, 9), (39, 47, 1, 1), (0, 13, 40, 10), (8, 2, 32, 32)]


def pictures(count: int) -> Tensor:
    return torch.randint(0, 256, (count, 40, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size_px", [8, 17, 32, 64])
def test_each_image_is_cropped_and_resized_as_torchvision_does(size_px: int) -> None:
    images = pictures(len(BOXES))
    flip = torch.tensor([False, True, False, True, True, False])
    ours = crop_resize(images, torch.tensor(BOXES).float(), flip, size_px=size_px)
    for image, box, mirrored, result in zip(images, BOXES, flip, ours, strict=True):
        planes = image.permute(2, 0, 1).float() / 255
        top, left, height, width = box
        expected = reference.resized_crop(planes, top, left, height, width, [size_px, size_px], antialias=True)
        expected = reference.hflip(expected) if mirrored else expected
        torch.testing.assert_close(result, expected, atol=1 / 255 / 50, rtol=0)


def test_rounded_to_bytes_it_is_within_one_of_torchvision_on_bytes() -> None:
    images = pictures(2)
    boxes = torch.tensor([[0.0, 0, 40, 48], [1, 2, 30, 20]])
    ours = crop_resize(images, boxes, torch.zeros(2, dtype=torch.bool), size_px=16)
    for image, box, result in zip(images, boxes.int().tolist(), ours, strict=True):
        expected = reference.resized_crop(image.permute(2, 0, 1), *box, [16, 16], antialias=True)
        assert (result * 255 - expected.float()).abs().max() <= 1.0


def test_weights_sum_to_one_and_stay_inside_the_box() -> None:
    matrix = interpolation_matrix(torch.tensor([5.0, 0.0]), torch.tensor([3.0, 40.0]), inputs=40, outputs=8)
    torch.testing.assert_close(matrix.sum(dim=2), torch.ones(2, 8))
    assert matrix[0, :, :5].abs().max() == 0
    assert matrix[0, :, 8:].abs().max() == 0


def test_the_full_box_at_its_own_size_is_the_image() -> None:
    image = torch.randint(0, 256, (1, 24, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    same = crop_resize(image, torch.tensor([[0.0, 0, 24, 24]]), torch.tensor([False]), size_px=24)
    torch.testing.assert_close(same[0], image[0].permute(2, 0, 1).float() / 255)

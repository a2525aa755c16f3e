from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference  # type: ignore[import-untyped]  # ships no types

from training.views.rotate import rotate

ANGLES = [0.0, 12.5, -12.5, 45.0, 90.0, -90.0, 133.0, 180.0, -180.0]
BILINEAR = reference.InterpolationMode.BILINEAR


def pictures(count: int, height: int = 21, width: int = 21) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(21, 21), (16, 16), (12, 19)])
def test_each_image_is_turned_as_torchvision_turns_it_padded_with_its_edge(size: tuple[int, int]) -> None:
    images, margin = pictures(len(ANGLES), *size), 12
    turned = rotate(images, torch.tensor(ANGLES))
    for image, angle, result in zip(images, ANGLES, turned, strict=True):
        padded = reference.pad(image, [margin], padding_mode="edge")
        expected = reference.rotate(padded, angle, BILINEAR)[:, margin:-margin, margin:-margin]
        torch.testing.assert_close(result, expected, atol=1 / 255 / 20, rtol=0)


@pytest.mark.parametrize("angle", ANGLES)
def test_where_torchvision_reads_no_pixel_from_outside_it_is_its_plain_rotation(angle: float) -> None:
    image = pictures(1)
    seen = reference.rotate(torch.ones_like(image), angle, BILINEAR) > 1 - 1e-6
    gap = (rotate(image, torch.tensor([angle])) - reference.rotate(image, angle, BILINEAR)).abs()
    assert seen.float().mean() > 0.6
    assert gap[seen].max() < 1 / 255 / 20


def test_a_quarter_turn_is_counter_clockwise() -> None:
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    assert rotate(image, torch.tensor([90.0]))[0, 0].round().tolist() == [[2, 4], [1, 3]]
    assert rotate(image, torch.tensor([-90.0]))[0, 0].round().tolist() == [[3, 1], [4, 2]]


def test_every_image_has_an_angle_of_its_own_and_stays_where_it_is_none() -> None:
    images = pictures(1).expand(3, -1, -1, -1)
    turned = rotate(images, torch.tensor([0.0, 30.0, -30.0]))
    torch.testing.assert_close(turned[0], images[0], atol=1e-5, rtol=0)
    assert (turned[1] - turned[2]).abs().mean() > 0.05
    torch.testing.assert_close(turned[1], rotate(images[1:2], torch.tensor([30.0]))[0], atol=1e-6, rtol=0)


def test_one_colour_stays_one_colour_in_every_corner() -> None:
    images = torch.full((4, 3, 15, 15), 0.7)
    torch.testing.assert_close(rotate(images, torch.tensor([5.0, 45.0, 100.0, -170.0])), images)

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference  # type: ignore[import-untyped]  # ships no types

from training.views.colour import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    greyscale,
    solarise,
)


def pictures(count: int) -> Tensor:
    images = torch.rand(count, 3, 9, 11, generator=torch.Generator().manual_seed(0))
    images[:, :, 0] = images[:, :1, 0]  # grey pixels have no hue
    images[:, :, 1, :3] = torch.eye(3)  # pure ones sit on the borders between sectors
    images[:, :, 1, 3:6] = 1 - torch.eye(3)
    images[:, :, 2, 0] = 0
    images[:, :, 2, 1] = 1
    return images


@pytest.mark.parametrize(
    ("ours", "theirs", "factors"),
    [
        (adjust_brightness, reference.adjust_brightness, [0.0, 0.4, 1.0, 1.7]),
        (adjust_contrast, reference.adjust_contrast, [0.0, 0.4, 1.0, 1.7]),
        (adjust_saturation, reference.adjust_saturation, [0.0, 0.4, 1.0, 1.7]),
        (adjust_hue, reference.adjust_hue, [-0.5, -0.1, 0.0, 0.07, 0.3, 0.5]),
    ],
)
def test_each_image_is_changed_as_torchvision_does(
    ours: Callable[[Tensor, Tensor], Tensor], theirs: Callable[[Tensor, float], Tensor], factors: list[float]
) -> None:
    images = pictures(len(factors))
    changed = ours(images, torch.tensor(factors))
    for image, factor, result in zip(images, factors, changed, strict=True):
        torch.testing.assert_close(result, theirs(image, factor), atol=2e-6, rtol=0)


@pytest.mark.parametrize("change", [adjust_brightness, adjust_contrast, adjust_saturation])
def test_a_factor_of_one_changes_nothing(change: Callable[[Tensor, Tensor], Tensor]) -> None:
    images = pictures(2)
    torch.testing.assert_close(change(images, torch.ones(2)), images, atol=1e-6, rtol=0)


def test_grey_is_torchvisions_and_only_for_the_chosen() -> None:
    images = pictures(2)
    result = greyscale(images, torch.tensor([True, False]))
    torch.testing.assert_close(
        result[0], reference.rgb_to_grayscale(images[0], num_output_channels=3), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(result[1], images[1])


def test_solarise_is_torchvisions_and_only_for_the_chosen() -> None:
    images = pictures(2)
    result = solarise(images, torch.tensor([True, False]), threshold=0.5)
    torch.testing.assert_close(result[0], reference.solarize(images[0], 0.5))
    torch.testing.assert_close(result[1], images[1])


def test_inputs_are_left_alone() -> None:
    images = pictures(2)
    before = images.clone()
    for change in (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue):
        change(images, torch.full((2,), 0.3))
    torch.testing.assert_close(images, before, rtol=0, atol=0)

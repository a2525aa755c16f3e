from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from training.views.config import MultiCropConfig, ViewConfig
from training.views.presets import Augmentation, view_of


def test_a_view_follows_its_settings() -> None:
    config = ViewConfig(augmentation=Augmentation.SIMCLR, strength=0.5, smallest_crop=0.3)
    assert config.view(224) == view_of(Augmentation.SIMCLR_224, 224, strength=0.5, smallest_crop=0.3)
    assert config.view(224).hue == 0.1
    assert ViewConfig().view(32) == view_of(Augmentation.STRONG, 32)


def test_a_method_whose_views_differ_names_another_set_with_the_same_dials() -> None:
    config = ViewConfig(augmentation=Augmentation.BYOL_FIRST, strength=2, smallest_crop=0.4)
    second = config.view(32, Augmentation.BYOL_SECOND)
    assert second == view_of(Augmentation.BYOL_SECOND, 32, strength=2, smallest_crop=0.4)
    assert (second.saturation, second.solarise_probability, second.crop_scale) == (0.4, 0.2, (0.4, 1.0))


@pytest.mark.parametrize("size_px", [32, 224])
def test_without_small_views_there_are_two_with_the_sets_crops(size_px: int) -> None:
    config = MultiCropConfig()
    assert config.multi_crop(size_px) == (config.view(size_px),) * 2
    assert config.multi_crop(size_px)[0].crop_scale == (0.2, 1.0)


def test_large_and_small_views_part_the_crops_between_them() -> None:
    config = MultiCropConfig(small_views=3, largest_small_crop=0.4)
    views = config.multi_crop(224)
    large, small = replace(config.view(224), crop_scale=(0.4, 1.0)), replace(config.view(96), crop_scale=(0.2, 0.4))
    assert views == (large, large, small, small, small)


def test_paws_crops_for_small_images() -> None:
    paws = MultiCropConfig(smallest_crop=0.3, largest_small_crop=0.75, small_views=6, small_size_px=18)
    views = paws.multi_crop(32)
    assert [view.size_px for view in views] == [32] * 2 + [18] * 6
    assert [view.crop_scale for view in views] == [(0.75, 1.0)] * 2 + [(0.3, 0.75)] * 6


@pytest.mark.parametrize(("size_px", "side"), [(224, 96), (96, 41), (32, 14), (28, 12), (16, 8), (8, 8)])
def test_small_views_are_three_sevenths_of_the_large_and_no_smaller_than_eight(size_px: int, side: int) -> None:
    assert MultiCropConfig(small_views=1).multi_crop(size_px)[2].size_px == side


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"small_views": -1}, r"small_views \(-1\) >= 0"),
        ({"small_views": 1, "largest_small_crop": 0.2}, r"largest_small_crop \(0\.2\) must be above .* \(0\.2\)"),
        ({"small_views": 1, "largest_small_crop": 1.0}, r"largest_small_crop \(1\.0\) must be .* below 1"),
        ({"small_views": 1, "largest_small_crop": float("nan")}, r"largest_small_crop \(nan\)"),
        ({"small_views": 1, "smallest_crop": 0.5}, r"largest_small_crop \(0\.4\) must be above .* \(0\.5\)"),
        ({"small_views": 1, "small_size_px": 33}, r"small_size_px \(33\) must be in \[1, 32\]"),
        ({"small_views": 1, "small_size_px": 0}, r"small_size_px \(0\) must be in \[1, 32\]"),
        ({"small_views": 1, "small_size_px": -4}, r"small_size_px \(-4\) must be in \[1, 32\]"),
        ({"strength": -1.0}, r"strength \(-1\.0\) >= 0"),
        ({"smallest_crop": 0.0}, r"smallest_crop \(0\.0\) must be in \(0, 1\]"),
    ],
)
def test_crops_that_cannot_be_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiCropConfig(**fields).multi_crop(32)


def test_a_pair_is_byols_two_sets_or_one_set_twice() -> None:
    first, second = ViewConfig(augmentation=Augmentation.BYOL_FIRST, strength=0.5).pair(32)
    assert (first, second) == (
        view_of(Augmentation.BYOL_FIRST, 32, strength=0.5),
        view_of(Augmentation.BYOL_SECOND, 32, strength=0.5),
    )
    assert ViewConfig().pair(32) == (view_of(Augmentation.STRONG, 32),) * 2

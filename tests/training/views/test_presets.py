from __future__ import annotations

from dataclasses import replace

import pytest

from training.views.presets import Augmentation, view_of


def test_simclr_follows_the_size_of_the_images() -> None:
    assert view_of(Augmentation.SIMCLR, 32) == view_of(Augmentation.SIMCLR_32, 32)
    assert view_of(Augmentation.SIMCLR, 224) == view_of(Augmentation.SIMCLR_224, 224)


def test_simclr_for_small_images_halves_the_colours_and_does_not_blur() -> None:
    small, large = view_of(Augmentation.SIMCLR_32, 32), view_of(Augmentation.SIMCLR_224, 32)
    assert (small.brightness, small.contrast, small.saturation, small.hue) == (0.4, 0.4, 0.4, 0.1)
    assert large.scaled(0.5).hue == small.hue
    assert (small.blur_probability, large.blur_probability) == (0.0, 0.5)
    assert small.crop_scale == (0.08, 1.0)


def test_weak_and_strong_are_mean_shifts() -> None:
    weak, strong = view_of(Augmentation.WEAK, 32), view_of(Augmentation.STRONG, 32)
    assert weak.crop_scale == strong.crop_scale == (0.2, 1.0)
    assert (weak.jitter_probability, weak.grey_probability, weak.blur_probability) == (0, 0, 0)
    assert (strong.jitter_probability, strong.hue, strong.grey_probability, strong.blur_probability) == (
        0.8,
        0.1,
        0.2,
        0.5,
    )


def test_strength_is_one_dial() -> None:
    view = view_of(Augmentation.SIMCLR_224, 224, strength=4)
    assert (view.brightness, view.hue) == (3.2, 0.5)
    assert view_of(Augmentation.STRONG, 32, strength=0).contrast == 0


def test_the_smallest_crop_is_another() -> None:
    view = view_of(Augmentation.STRONG, 32, strength=2, smallest_crop=0.5)
    assert view == replace(view_of(Augmentation.STRONG, 32, strength=2), crop_scale=(0.5, 1.0))


@pytest.mark.parametrize("share", [0.0, 1.1, float("nan")])
def test_a_crop_that_no_image_has_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"smallest_crop \(.*\) must be in \(0, 1\]"):
        view_of(Augmentation.WEAK, 32, smallest_crop=share)


def test_bad_views_are_refused() -> None:
    with pytest.raises(ValueError, match=r"size_px \(0\)"):
        view_of(Augmentation.WEAK, 0)

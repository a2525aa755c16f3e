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


@pytest.mark.parametrize(("size_px", "blur"), [(32, (0.0, 0.0)), (64, (0.0, 0.0)), (65, (1.0, 0.1)), (224, (1.0, 0.1))])
def test_byols_two_views_differ_in_blur_and_solarising(size_px: int, blur: tuple[float, float]) -> None:
    first, second = (view_of(a, size_px) for a in (Augmentation.BYOL_FIRST, Augmentation.BYOL_SECOND))
    assert (first.blur_probability, second.blur_probability) == blur
    assert (first.solarise_probability, second.solarise_probability) == (0.0, 0.2)
    assert replace(second, blur_probability=blur[0], solarise_probability=0.0) == first
    assert second.solarise_threshold == 0.5


@pytest.mark.parametrize("augmentation", [Augmentation.BYOL_FIRST, Augmentation.BYOL_SECOND])
def test_byols_views_have_half_the_saturation(augmentation: Augmentation) -> None:
    view = view_of(augmentation, 32)
    assert (view.brightness, view.contrast, view.saturation, view.hue) == (0.4, 0.4, 0.2, 0.1)
    assert (view.jitter_probability, view.grey_probability, view.flip_probability) == (0.8, 0.2, 0.5)
    assert (view.crop_scale, view.crop_ratio) == ((0.08, 1.0), (3 / 4, 4 / 3))
    assert view_of(augmentation, 32, strength=0.5) == view.scaled(0.5)


def test_grey_images_keep_the_changes_that_they_can_show() -> None:
    view = view_of(Augmentation.GREY, 28)
    assert (view.brightness, view.contrast, view.jitter_probability, view.flip_probability) == (0.4, 0.4, 0.8, 0.5)
    assert (view.saturation, view.hue, view.grey_probability, view.blur_probability) == (0, 0, 0, 0)


@pytest.mark.parametrize("augmentation", Augmentation)
@pytest.mark.parametrize("size_px", [32, 224])
def test_every_set_is_one_of_its_own(augmentation: Augmentation, size_px: int) -> None:
    same = [other for other in Augmentation if view_of(other, size_px) == view_of(augmentation, size_px)]
    simclr = [Augmentation.SIMCLR, Augmentation.SIMCLR_224 if size_px > 64 else Augmentation.SIMCLR_32]
    assert same == (simclr if augmentation in simclr else [augmentation])


@pytest.mark.parametrize("augmentation", Augmentation)
def test_no_set_rotates_or_erases(augmentation: Augmentation) -> None:
    view = view_of(augmentation, 32)
    assert (view.rotation_degrees, view.erase_probability) == (0, 0)

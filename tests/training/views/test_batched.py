from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference  # type: ignore[import-untyped]  # ships no types

from training.views.batched import apply_view, make_views
from training.views.erase import erase
from training.views.parameters import ViewParameters, draw_parameters
from training.views.presets import Augmentation, view_of
from training.views.spec import ViewSpec

CPU = torch.device("cpu")
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
ALL_CHANGES = ViewSpec(
    size_px=24,
    jitter_probability=1.0,
    grey_probability=0.3,
    blur_probability=0.7,
    solarise_probability=0.4,
    rotation_degrees=40,
    erase_probability=0.6,
)


def pictures(count: int, size: int = 32) -> Tensor:
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(9))


def torchvision_view(image: Tensor, spec: ViewSpec, parameters: ViewParameters, i: int) -> Tensor:
    top, left, height, width = parameters.boxes[i].int().tolist()
    side = [spec.size_px, spec.size_px]
    planes = image.permute(2, 0, 1).float() / 255
    view: Tensor = reference.resized_crop(planes, top, left, height, width, side, antialias=True)
    if parameters.flip[i]:
        view = reference.hflip(view)
    padded = reference.pad(view, [spec.size_px], padding_mode="edge")
    turned = reference.rotate(padded, float(parameters.rotation_degrees[i]), reference.InterpolationMode.BILINEAR)
    view = reference.center_crop(turned, side)
    steps = [
        (reference.adjust_brightness, parameters.brightness),
        (reference.adjust_contrast, parameters.contrast),
        (reference.adjust_saturation, parameters.saturation),
        (reference.adjust_hue, parameters.hue),
    ]
    for change, factors in (steps[k] for k in parameters.order):
        view = change(view, float(factors[i]))
    if parameters.grey[i]:
        view = reference.rgb_to_grayscale(view, num_output_channels=3)
    if parameters.blur[i]:
        sigma = float(parameters.blur_sigma_px[i])
        view = reference.gaussian_blur(view, [3, 3], [sigma, sigma])
    if parameters.solarise[i]:
        view = reference.solarize(view, spec.solarise_threshold)
    return view


@pytest.mark.parametrize("seed", range(4))
def test_a_view_equals_torchvisions_with_the_same_parameters(seed: int) -> None:
    images = pictures(16)
    generator = torch.Generator().manual_seed(seed)
    parameters = draw_parameters(ALL_CHANGES, (16, 32, 32), generator, device=CPU)
    views = apply_view(images, ALL_CHANGES, parameters)
    for i, (image, view) in enumerate(zip(images, views, strict=True)):
        expected = torchvision_view(image, ALL_CHANGES, parameters, i)
        # A pixel within rounding of the threshold may fall on either side of it.
        near = (torch.minimum(expected, 1 - expected) - ALL_CHANGES.solarise_threshold).abs() < 1e-4
        assert (view - expected)[~near].abs().max() < 1 / 255


def test_a_whole_view_equals_torchvisions_normalised_and_then_erased() -> None:
    images, mean, std = pictures(16), (0.3, 0.5, 0.7), (0.5, 0.25, 2.0)
    spec = replace(ALL_CHANGES, solarise_probability=0.0)
    (views,) = make_views(images, [spec], torch.Generator().manual_seed(0), mean=mean, std=std)
    parameters = draw_parameters(spec, (16, 32, 32), torch.Generator().manual_seed(0), device=CPU)
    for i, (image, view) in enumerate(zip(images, views, strict=True)):
        top, left, height, width = parameters.erase_boxes[i].int().tolist()
        normalised = reference.normalize(torchvision_view(image, spec, parameters, i), list(mean), list(std))
        expected = reference.erase(normalised, top, left, height, width, torch.zeros(3, 1, 1))
        assert ((view - expected) * torch.tensor(std)[:, None, None]).abs().max() < 1 / 255
        assert (view[:, top : top + height, left : left + width] == 0).all()


def test_what_is_erased_is_the_mean_colour_whatever_the_colour_changes() -> None:
    mean = (0.2, 0.5, 0.9)
    always = replace(ALL_CHANGES, erase_probability=1.0, solarise_probability=1.0, blur_probability=1.0)
    (views,) = make_views(pictures(8), [always], torch.Generator().manual_seed(0), mean=mean, std=(0.5, 0.25, 2.0))
    shown = views * torch.tensor((0.5, 0.25, 2.0))[:, None, None] + torch.tensor(mean)[:, None, None]
    boxes = draw_parameters(always, (8, 32, 32), torch.Generator().manual_seed(0), device=CPU).erase_boxes.int()
    for view, (top, left, height, width) in zip(shown, boxes.tolist(), strict=True):
        assert height * width > 0
        rectangle = view[:, top : top + height, left : left + width].flatten(1)
        torch.testing.assert_close(rectangle, torch.tensor(mean)[:, None].expand(-1, height * width))


def test_rotation_and_erasing_change_nothing_else_of_a_view() -> None:
    plain = replace(ALL_CHANGES, rotation_degrees=0.0, erase_probability=0.0)
    erased = replace(plain, erase_probability=1.0)
    before, after = (
        make_views(pictures(8), [s], torch.Generator().manual_seed(0), **PLAIN)[0] for s in (plain, erased)
    )
    boxes = draw_parameters(erased, (8, 32, 32), torch.Generator().manual_seed(0), device=CPU).erase_boxes
    torch.testing.assert_close(after, erase(before, boxes), rtol=0, atol=0)
    turned = replace(plain, rotation_degrees=30.0)
    parameters = [
        draw_parameters(s, (8, 32, 32), torch.Generator().manual_seed(0), device=CPU) for s in (plain, turned)
    ]
    assert torch.equal(parameters[0].boxes, parameters[1].boxes)
    assert torch.equal(parameters[0].hue, parameters[1].hue)


# The views' first values as they were before rotation and erasing could be drawn.
BEFORE = {
    Augmentation.SIMCLR_32: [0.494, 0.5757, 0.4727, 0.5862, 0.6101, 0.3028],
    Augmentation.WEAK: [0.414, 0.4372, 0.4898, 0.2023, 0.3866, 0.4455],
}


@pytest.mark.parametrize("augmentation", BEFORE)
def test_views_with_neither_are_what_they_were(augmentation: Augmentation) -> None:
    spec = view_of(augmentation, 16)
    views = make_views(pictures(3), [spec, spec], torch.Generator().manual_seed(5), **PLAIN)
    found = [round(float(view[image, 1, 7, 7]), 4) for view in views for image in range(3)]
    assert found == pytest.approx(BEFORE[augmentation], abs=2e-4)


def test_views_are_normalised() -> None:
    images, spec = pictures(4), ViewSpec(size_px=16)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    (plain,) = make_views(images, [spec], torch.Generator().manual_seed(0), **PLAIN)
    (scaled,) = make_views(images, [spec], torch.Generator().manual_seed(0), mean=mean, std=std)
    expected = (plain - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(scaled, expected)


def test_two_views_of_an_image_differ_and_seeds_repeat_them() -> None:
    images, spec = pictures(8), view_of(Augmentation.SIMCLR, 32)
    first, second = make_views(images, [spec, spec], torch.Generator().manual_seed(0), **PLAIN)
    again, _ = make_views(images, [spec, spec], torch.Generator().manual_seed(0), **PLAIN)
    assert (first - second).abs().flatten(1).amax(dim=1).min() > 0.05
    torch.testing.assert_close(first, again, rtol=0, atol=0)


def test_views_do_not_depend_on_how_the_batch_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(10)
    whole = make_views(images, [ALL_CHANGES], torch.Generator().manual_seed(0), **PLAIN)[0]
    monkeypatch.setattr("training.views.batched._CACHED_VALUES", 3 * 32 * 32 * 3)
    parts = make_views(images, [ALL_CHANGES], torch.Generator().manual_seed(0), **PLAIN)[0]
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=0)


def test_changes_of_probability_zero_are_not_made() -> None:
    still = replace(view_of(Augmentation.WEAK, 32), crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip_probability=0.0)
    images = pictures(3)
    (views,) = make_views(images, [still], torch.Generator().manual_seed(0), **PLAIN)
    torch.testing.assert_close(views, images.permute(0, 3, 1, 2).float() / 255)


def test_views_may_differ_in_size() -> None:
    specs = [ViewSpec(size_px=16), ViewSpec(size_px=40)]
    views = make_views(pictures(2), specs, torch.Generator().manual_seed(0), **PLAIN)
    assert [tuple(v.shape) for v in views] == [(2, 3, 16, 16), (2, 3, 40, 40)]


def test_values_stay_in_range() -> None:
    extreme = ALL_CHANGES.scaled(2.0)
    (views,) = make_views(pictures(64), [extreme], torch.Generator().manual_seed(0), **PLAIN)
    assert views.min() >= -1e-6
    assert views.max() <= 1 + 1e-6


def test_bad_input_is_refused() -> None:
    generator = torch.Generator()
    with pytest.raises(ValueError, match=r"\[n, H, W, 3\] uint8, got \[2, 3, 8, 8\] torch.uint8"):
        make_views(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), [ALL_CHANGES], generator, **PLAIN)
    with pytest.raises(ValueError, match=r"torch\.float32"):
        make_views(torch.zeros(2, 8, 8, 3), [ALL_CHANGES], generator, **PLAIN)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_makes_the_same_views() -> None:
    images = pictures(32)
    views = make_views(images, [ALL_CHANGES], torch.Generator().manual_seed(0), **PLAIN)[0]
    on_gpu = make_views(images.cuda(), [ALL_CHANGES], torch.Generator().manual_seed(0), **PLAIN)[0]
    close = (views - on_gpu.cpu()).abs() < 1 / 255
    assert close.float().mean() > 0.999  # a pixel at the threshold of solarise may differ

"""What a view's random changes are for each image of a batch: drawn first, applied later."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from training.views.spec import ViewSpec

__all__ = ["ViewParameters", "draw_parameters"]

_ATTEMPTS = 10  # as torchvision: boxes that do not fit are drawn anew, this often
_UNIFORMS = 2 * _ATTEMPTS + 12
_LATER_UNIFORMS = 2 * _ATTEMPTS + 4
"""Of rotation and erasing, drawn after all else and only where a view has either: without, draws are what they were."""


@dataclass(frozen=True, slots=True)
class ViewParameters:
    """The changes of each image; factors are neutral where a change is not made."""

    boxes: Tensor
    """`[n, 4]` fp32: top, left, height, width of the crop, in whole pixels."""
    flip: Tensor
    """`[n]` bool."""
    brightness: Tensor
    """`[n]` fp32 factor."""
    contrast: Tensor
    """`[n]` fp32 factor."""
    saturation: Tensor
    """`[n]` fp32 factor."""
    hue: Tensor
    """`[n]` fp32 turn, of a full circle."""
    grey: Tensor
    """`[n]` bool."""
    blur: Tensor
    """`[n]` bool."""
    blur_sigma_px: Tensor
    """`[n]` fp32, in pixels of the view."""
    solarise: Tensor
    """`[n]` bool."""
    rotation_degrees: Tensor
    """`[n]` fp32, counter-clockwise."""
    erase_boxes: Tensor
    """`[n, 4]` fp32: top, left, height, width in whole pixels of the view; all 0 where nothing is erased."""
    order: tuple[int, ...]
    """The order of brightness 0, contrast 1, saturation 2 and hue 3: one for the batch."""

    def part(self, start: int, stop: int) -> ViewParameters:
        """Returns the parameters of some images.

        Args:
            start: First image.
            stop: One past the last.

        Returns:
            Views of these tensors.
        """
        tensors = {f.name: getattr(self, f.name)[start:stop] for f in fields(self) if f.name != "order"}
        return ViewParameters(order=self.order, **tensors)


def draw_parameters(
    spec: ViewSpec, image_shape: tuple[int, int, int], generator: torch.Generator, *, device: torch.device
) -> ViewParameters:
    """Draws a view's parameters for a batch, in torchvision's distributions.

    Only uniform numbers are drawn, on the CPU and equally many for every image, whatever their values; all else is
    computed from them on the device. So the same generator state gives the same views on every device, and no value is
    waited for.

    Args:
        spec: The view.
        image_shape: Images, height and width in pixels.
        generator: A CPU generator, seeded by the caller; advances.
        device: Where the views are made.

    Returns:
        The parameters, on `device`. Each image's are independent of the others', but for the order of the colour
        changes, which is drawn once for the batch.
    """
    count, height, width = image_shape
    order = tuple(torch.randperm(4, generator=generator).tolist())
    uniforms = torch.rand(count, _UNIFORMS, generator=generator).to(device, non_blocking=True)
    draws = iter(uniforms[:, 2 * _ATTEMPTS :].unbind(dim=1))
    boxes = _draw_boxes(spec, (height, width), uniforms[:, : 2 * _ATTEMPTS], (next(draws), next(draws)))
    flip = next(draws) < spec.flip_probability
    jitter = next(draws) < spec.jitter_probability
    low, high = (sigma * spec.size_px / 224 for sigma in spec.blur_sigma_px)
    rotation_degrees, erase_boxes = _draw_later(spec, count, generator, device)
    return ViewParameters(
        boxes=boxes,
        flip=flip,
        brightness=_factor(next(draws), jitter, spec.brightness),
        contrast=_factor(next(draws), jitter, spec.contrast),
        saturation=_factor(next(draws), jitter, spec.saturation),
        hue=(next(draws) * 2 - 1) * spec.hue * jitter,
        grey=next(draws) < spec.grey_probability,
        blur=next(draws) < spec.blur_probability,
        blur_sigma_px=low + next(draws) * (high - low),
        solarise=next(draws) < spec.solarise_probability,
        rotation_degrees=rotation_degrees,
        erase_boxes=erase_boxes,
        order=order,
    )


def _draw_later(spec: ViewSpec, count: int, generator: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draws the angles and the rectangles to erase."""
    if spec.rotation_degrees == 0 and spec.erase_probability == 0:
        return torch.zeros(count, device=device), torch.zeros(count, 4, device=device)
    uniforms = torch.rand(count, _LATER_UNIFORMS, generator=generator).to(device, non_blocking=True)
    turn, chosen, *place = uniforms[:, 2 * _ATTEMPTS :].unbind(dim=1)
    boxes = _draw_rectangles(spec, uniforms[:, : 2 * _ATTEMPTS], (place[0], place[1]))
    return (turn * 2 - 1) * spec.rotation_degrees, boxes * (chosen < spec.erase_probability)[:, None]


def _factor(uniform: Tensor, chosen: Tensor, strength: float) -> Tensor:
    low, high = max(0.0, 1 - strength), 1 + strength
    return torch.where(chosen, low + uniform * (high - low), 1.0)


def _draw_boxes(spec: ViewSpec, size: tuple[int, int], attempts: Tensor, place: tuple[Tensor, Tensor]) -> Tensor:
    """Draws boxes as torchvision's RandomResizedCrop: the first attempt that fits, or the largest central box."""
    height, width = size
    widths, heights = _draw_sides(spec.crop_scale, spec.crop_ratio, height * width, attempts)
    fits = (widths >= 1) & (widths <= width) & (heights >= 1) & (heights <= height)
    first = fits.float().argmax(dim=1, keepdim=True)  # the first of the largest: 0 where none fits
    any_fits = fits.any(dim=1)
    central_height, central_width = _central_box(spec.crop_ratio, height, width)
    box_height = torch.where(any_fits, heights.gather(1, first)[:, 0], float(central_height))
    box_width = torch.where(any_fits, widths.gather(1, first)[:, 0], float(central_width))
    free_height, free_width = height - box_height, width - box_width
    top = torch.where(any_fits, _whole(place[0], free_height), torch.floor(free_height / 2))
    left = torch.where(any_fits, _whole(place[1], free_width), torch.floor(free_width / 2))
    return torch.stack([top, left, box_height, box_width], dim=1)


def _draw_rectangles(spec: ViewSpec, attempts: Tensor, place: tuple[Tensor, Tensor]) -> Tensor:
    """Draws rectangles as torchvision's RandomErasing: the first attempt shorter than both sides, or none."""
    heights, widths = _draw_sides(spec.erase_scale, spec.erase_ratio, spec.size_px**2, attempts)
    fits = (heights < spec.size_px) & (widths < spec.size_px)
    first = fits.float().argmax(dim=1, keepdim=True)
    height, width = heights.gather(1, first)[:, 0], widths.gather(1, first)[:, 0]
    top, left = _whole(place[0], spec.size_px - height), _whole(place[1], spec.size_px - width)
    return torch.stack([top, left, height, width], dim=1) * fits.any(dim=1)[:, None]


def _draw_sides(
    scale: tuple[float, float], ratio: tuple[float, float], area_px: int, attempts: Tensor
) -> tuple[Tensor, Tensor]:
    """Draws areas, uniform, and ratios, uniform in their logarithm.

    Args:
        scale: Of the areas, as a fraction of `area_px`.
        ratio: First side over second.
        area_px: The whole.
        attempts: `[n, 2 * attempts]` uniform numbers: areas', then ratios'.

    Returns:
        First and second sides, `[n, attempts]` each, in whole pixels.
    """
    area = (scale[0] + attempts[:, :_ATTEMPTS] * (scale[1] - scale[0])) * area_px
    low, high = math.log(ratio[0]), math.log(ratio[1])
    drawn = torch.exp(low + attempts[:, _ATTEMPTS:] * (high - low))
    return torch.sqrt(area * drawn).round(), torch.sqrt(area / drawn).round()


def _whole(uniform: Tensor, largest: Tensor) -> Tensor:
    # fp32 may round u * (largest + 1) up to largest + 1.
    return torch.minimum(torch.floor(uniform * (largest + 1)), largest)


def _central_box(ratio: tuple[float, float], height: int, width: int) -> tuple[int, int]:
    if width / height < ratio[0]:
        return max(1, round(width / ratio[0])), width
    if width / height > ratio[1]:
        return height, max(1, round(height * ratio[1]))
    return height, width

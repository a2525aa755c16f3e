"""Views of a whole batch at once, on the training device.

The operations are torchvision's, each image with parameters of its own, without a Python loop over images and
without rounding to bytes in between: crop-resize and flip, rotation, colour jitter, grey, blur, solarise, normalise,
erasing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from training.views.blur import gaussian_blur
from training.views.colour import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    greyscale,
    solarise,
)
from training.views.erase import erase
from training.views.parameters import ViewParameters, draw_parameters
from training.views.resize import crop_resize
from training.views.rotate import rotate
from training.views.spec import ViewSpec

__all__ = ["apply_view", "make_views"]

_CACHED_VALUES = 100_000
"""Values of an image stack that the CPU works on at once, so that it stays in the cache."""


def make_views(
    images: Tensor,
    specs: Sequence[ViewSpec],
    generator: torch.Generator,
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> tuple[Tensor, ...]:
    """Shows every image of a batch in each of the views.

    Args:
        images: `[n, H, W, 3]` uint8, on the training device.
        specs: The views.
        generator: A CPU generator that the caller seeds from (seed, stream, epoch, step, rank); advances.
        mean: Of red, green and blue in [0, 1]; subtracted.
        std: Of red, green and blue; divides.

    Returns:
        Per spec `[n, 3, size_px, size_px]` fp32, normalised, on the images' device. Equal for equal generator states.

    Raises:
        ValueError: `images` is no `[n, H, W, 3]` uint8 tensor, or the generator is not on the CPU.
    """
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != torch.uint8:
        raise ValueError(f"images must be [n, H, W, 3] uint8, got {list(images.shape)} {images.dtype}")
    if generator.device.type != "cpu":
        raise ValueError(
            f"the generator must be on the CPU, so that views do not depend on the device, got {generator.device}"
        )
    shape = (images.shape[0], images.shape[1], images.shape[2])
    shift = torch.tensor(mean, device=images.device)[:, None, None]
    scale = 1 / torch.tensor(std, device=images.device)[:, None, None]
    views = []
    for spec in specs:
        parameters = draw_parameters(spec, shape, generator, device=images.device)
        view = _in_parts(images, spec, parameters).sub_(shift).mul_(scale)
        views.append(erase(view, parameters.erase_boxes) if spec.erase_probability > 0 else view)
    return tuple(views)


def apply_view(images: Tensor, spec: ViewSpec, parameters: ViewParameters) -> Tensor:
    """Makes one view of a batch from drawn parameters: all but the rectangle that `make_views` erases.

    An erased rectangle has the mean colour of the data, which no change of colour may follow and which is 0 once the
    view is normalised; so it is erased there.

    Args:
        images: `[n, H, W, 3]` uint8.
        spec: The view.
        parameters: Of the same n images.

    Returns:
        `[n, 3, size_px, size_px]` fp32 in [0, 1].
    """
    view = crop_resize(images, parameters.boxes, parameters.flip, size_px=spec.size_px)
    if spec.rotation_degrees > 0:
        view = rotate(view, parameters.rotation_degrees)
    if spec.jitter_probability > 0:
        for change, strength, factors in _jitters(spec, parameters):
            view = change(view, factors) if strength > 0 else view
    if spec.grey_probability > 0:
        view = greyscale(view, parameters.grey)
    if spec.blur_probability > 0:
        blurred = gaussian_blur(view, parameters.blur_sigma_px, radius=_blur_radius(spec))
        view = torch.where(parameters.blur[:, None, None, None], blurred, view)
    if spec.solarise_probability > 0:
        view = solarise(view, parameters.solarise, threshold=spec.solarise_threshold)
    return view


def _jitters(
    spec: ViewSpec, parameters: ViewParameters
) -> list[tuple[Callable[[Tensor, Tensor], Tensor], float, Tensor]]:
    changes: list[tuple[Callable[[Tensor, Tensor], Tensor], float, Tensor]] = [
        (adjust_brightness, spec.brightness, parameters.brightness),
        (adjust_contrast, spec.contrast, parameters.contrast),
        (adjust_saturation, spec.saturation, parameters.saturation),
        (adjust_hue, spec.hue, parameters.hue),
    ]
    return [changes[place] for place in parameters.order]


def _blur_radius(spec: ViewSpec) -> int:
    # Four standard deviations hold all but 1 in 15,000 of the weight; a mirrored border needs radius < size.
    return min(spec.size_px - 1, max(1, math.ceil(4 * spec.blur_sigma_px[1] * spec.size_px / 224)))


def _in_parts(images: Tensor, spec: ViewSpec, parameters: ViewParameters) -> Tensor:
    count = images.shape[0]
    largest = 3 * max(spec.size_px**2, images.shape[1] * images.shape[2])
    step = count if images.device.type != "cpu" else max(1, _CACHED_VALUES // largest)
    if step >= count:
        return apply_view(images, spec, parameters)
    view = torch.empty(count, 3, spec.size_px, spec.size_px)
    for start in range(0, count, step):
        stop = min(start + step, count)
        view[start:stop] = apply_view(images[start:stop], spec, parameters.part(start, stop))
    return view

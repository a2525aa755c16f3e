from __future__ import annotations

import pytest
import torch
from torch import nn

from models.image.decoder import ImageDecoder


@pytest.mark.parametrize(
    ("size_px", "sides"),
    [
        (32, [2, 4, 8, 16, 32]),
        (16, [1, 2, 4, 8, 16]),
        (20, [2, 3, 5, 10, 20]),
        (8, [1, 2, 4, 8]),
        (224, [7, 14, 28, 56, 112, 224]),
    ],
)
def test_maps_double_from_a_small_one_to_the_image(size_px: int, sides: list[int]) -> None:
    decoder = ImageDecoder(6, size_px, channels=8)
    seen: list[int] = []
    for layer in decoder.layers:
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape[2]))

    images = decoder(torch.randn(2, 6))

    assert tuple(images.shape) == (2, 3, size_px, size_px)
    assert (decoder.unflatten.unflattened_size[1], seen) == (sides[0], sides[1:])


def test_channels_halve_down_to_32() -> None:
    convolutions = [layer for layer in ImageDecoder(6, 224, channels=256).layers if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [128, 64, 32, 32, 3]


def test_pixels_have_no_bounds() -> None:
    decoder = ImageDecoder(6, 8, channels=8)
    last = decoder.layers[-1]
    assert isinstance(last, nn.Conv2d)
    nn.init.zeros_(last.weight)
    assert last.bias is not None
    nn.init.constant_(last.bias, -5.0)
    torch.testing.assert_close(decoder(torch.randn(2, 6)), torch.full((2, 3, 8, 8), -5.0))


@pytest.mark.parametrize(("width", "size_px", "channels"), [(0, 8, 8), (6, 0, 8), (6, 8, 0)])
def test_bad_numbers_are_refused(width: int, size_px: int, channels: int) -> None:
    with pytest.raises(ValueError, match=rf"width \({width}\), size_px \({size_px}\) and channels \({channels}\)"):
        ImageDecoder(width, size_px, channels=channels)

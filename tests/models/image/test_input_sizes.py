from __future__ import annotations

import pytest

from models.config import ImageEncoderConfig
from models.image.build import build_image_encoder
from models.image.input_sizes import require_input_sizes


def test_a_vision_transformer_takes_its_own_size_alone() -> None:
    encoder = build_image_encoder(ImageEncoderConfig(architecture="vit-tiny", image_size_px=32))
    require_input_sizes(encoder, [32, 32])
    with pytest.raises(ValueError, match="vit-tiny reads images of 32 px alone, and this method also shows it 12 px"):
        require_input_sizes(encoder, [32, 12])


def test_convolutions_take_any_size() -> None:
    require_input_sizes(build_image_encoder(ImageEncoderConfig(image_size_px=32)), [32, 8])

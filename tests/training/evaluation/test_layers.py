from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from models.config import ImageEncoderConfig
from models.image.build import build_image_encoder
from training.evaluation.layers import ImageLayer

PIXELS = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_a_stage_is_what_comes_out_of_it_averaged_over_the_image() -> None:
    encoder = build_image_encoder(ImageEncoderConfig(architecture="resnet18", image_size_px=32)).eval()
    backbone: Any = encoder.backbone
    with torch.no_grad():
        features = backbone.layer1(backbone.maxpool(backbone.act1(backbone.bn1(backbone.conv1(PIXELS)))))
        found = ImageLayer(encoder, "layer1")(PIXELS)

    torch.testing.assert_close(found, F.normalize(features.mean(dim=(2, 3)), dim=1))


def test_the_last_stage_of_the_tiny_resnet_is_the_representation() -> None:
    encoder = build_image_encoder(ImageEncoderConfig(image_size_px=32)).eval()
    last = encoder.layers()[-1].name
    with torch.no_grad():
        torch.testing.assert_close(ImageLayer(encoder, last)(PIXELS), F.normalize(encoder(PIXELS), dim=1))


@pytest.mark.parametrize("layer", ["embeddings", "block.3", "output"])
def test_a_transformers_tokens_are_averaged(layer: str) -> None:
    config = ImageEncoderConfig(architecture="vit-tiny", image_size_px=32)
    with torch.no_grad():
        found = ImageLayer(build_image_encoder(config).eval(), layer)(PIXELS)
    assert found.shape == (3, 192)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))


def test_an_unknown_layer_is_refused_with_the_list() -> None:
    encoder = build_image_encoder(ImageEncoderConfig(image_size_px=32))
    with pytest.raises(ValueError, match=r"--layer top: the encoder has no such layer; it has stem, stage\.0"):
        ImageLayer(encoder, "top")

import json
from typing import Any

import pytest
import timm
import torch
import torchvision  # type: ignore[import-untyped]  # has no stubs

from models.config import IMAGE_ARCHITECTURES, ImageEncoderConfig
from models.image.build import build_image_encoder
from models.image.served import ServedImageEncoder

WIDTHS = {
    "tiny-resnet": 256,
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "vit-tiny": 192,
    "vit-small": 384,
    "efficientnet-lite0": 1280,
}


@pytest.mark.parametrize("architecture", IMAGE_ARCHITECTURES)
def test_an_image_is_represented_the_same_alone_and_in_a_batch(architecture: str) -> None:
    torch.manual_seed(0)
    encoder = build_image_encoder(ImageEncoderConfig(architecture=architecture)).eval()
    pixels = torch.randn(3, 3, 32, 32)

    with torch.inference_mode():
        together = encoder(pixels)
        alone = torch.cat([encoder(row.unsqueeze(0)) for row in pixels])

    assert together.shape == (3, WIDTHS[architecture])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["resnet18", "resnet34", "resnet50"])
def test_resnets_have_the_keys_of_torchvision(architecture: str) -> None:
    encoder = build_image_encoder(ImageEncoderConfig(architecture=architecture, image_size_px=224))
    reference = torchvision.models.get_model(architecture)
    shapes = {name: value.shape for name, value in reference.state_dict().items() if not name.startswith("fc.")}

    assert {name: value.shape for name, value in encoder.backbone.state_dict().items()} == shapes


def test_a_large_resnet_computes_what_torchvisions_does() -> None:
    torch.manual_seed(0)
    reference = torchvision.models.resnet18().eval()
    encoder = build_image_encoder(ImageEncoderConfig(architecture="resnet18", image_size_px=96)).eval()
    encoder.backbone.load_state_dict({k: v for k, v in reference.state_dict().items() if not k.startswith("fc.")})
    reference.fc = torch.nn.Identity()
    pixels = torch.randn(2, 3, 96, 96)

    with torch.inference_mode():
        torch.testing.assert_close(encoder(pixels), reference(pixels), atol=1e-5, rtol=1e-4)


def test_the_small_stem_keeps_the_resolution() -> None:
    encoder = build_image_encoder(ImageEncoderConfig(architecture="resnet18")).eval()
    sides: list[int] = []
    encoder.get_submodule("backbone.layer1").register_forward_hook(lambda _m, _i, output: sides.append(output.shape[2]))
    encoder(torch.zeros(1, 3, 32, 32))

    assert sides == [32]
    assert "backbone.conv1.bias" not in encoder.state_dict()


@pytest.mark.parametrize("size_px", [28, 32, 40])
def test_a_small_resnet_takes_any_small_size(size_px: int) -> None:
    for architecture in ("tiny-resnet", "resnet18"):
        encoder = build_image_encoder(ImageEncoderConfig(architecture=architecture, image_size_px=size_px)).eval()
        assert torch.isfinite(encoder(torch.zeros(1, 3, size_px, size_px))).all()


@pytest.mark.parametrize(
    ("config", "timm_name"),
    [
        (ImageEncoderConfig(architecture="vit-tiny", image_size_px=224), "vit_tiny_patch16_224"),
        (ImageEncoderConfig(architecture="efficientnet-lite0", image_size_px=224), "tf_efficientnet_lite0"),
    ],
)
def test_weights_of_timms_model_fill_the_encoder(config: ImageEncoderConfig, timm_name: str) -> None:
    torch.manual_seed(0)
    reference: Any = timm.create_model(timm_name).eval()
    encoder = build_image_encoder(config).eval()
    kept = {k: v for k, v in reference.state_dict().items() if not k.startswith(("head.", "classifier."))}
    encoder.backbone.load_state_dict(kept)
    pixels = torch.randn(1, 3, 224, 224)

    with torch.inference_mode():
        expected = reference.forward_head(reference.forward_features(pixels), pre_logits=True)
        torch.testing.assert_close(encoder(pixels), expected)


def test_equal_seeds_make_equal_encoders() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(build_image_encoder(ImageEncoderConfig()).state_dict())

    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_drop_path_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    encoder = build_image_encoder(ImageEncoderConfig(architecture="vit-tiny", drop_path=0.5))
    pixels = torch.randn(4, 3, 32, 32)

    assert not torch.equal(encoder(pixels), encoder(pixels))
    assert torch.equal(encoder.eval()(pixels), encoder(pixels))


def test_served_images_are_unit_rows_of_the_representation() -> None:
    torch.manual_seed(0)
    encoder = build_image_encoder(ImageEncoderConfig()).eval()
    pixels = torch.randn(2, 3, 32, 32)
    representation = encoder(pixels)

    expected = representation / representation.norm(dim=1, keepdim=True)
    torch.testing.assert_close(ServedImageEncoder(encoder)(pixels), expected)


def test_an_encoder_is_rebuilt_from_its_saved_configuration() -> None:
    config = ImageEncoderConfig(architecture="vit-tiny", image_size_px=48)
    rebuilt = build_image_encoder(ImageEncoderConfig.from_json(json.loads(json.dumps(config.to_json()))))

    assert rebuilt.backbone.pos_embed.shape == (1, 145, 192)

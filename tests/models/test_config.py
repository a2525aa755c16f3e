import json
import subprocess
import sys

import pytest

from models.config import ImageEncoderConfig, Pooling, TextArchitecture, TextEncoderConfig

TEXT = TextEncoderConfig(
    architecture=TextArchitecture.TRANSFORMER,
    vocab_size=100,
    width=24,
    layers=2,
    heads=3,
    max_tokens=17,
    pooling=Pooling.CLS,
    dropout=0.1,
    towers=2,
)
IMAGE = ImageEncoderConfig(architecture="vit-tiny", image_size_px=96, small_stem=False, drop_path=0.1)


def test_text_config_survives_a_round_trip_through_json() -> None:
    restored = TextEncoderConfig.from_json(json.loads(json.dumps(TEXT.to_json())))

    assert restored == TEXT
    assert restored.architecture is TextArchitecture.TRANSFORMER
    assert restored.pooling is Pooling.CLS


def test_pretrained_description_survives_a_round_trip_through_json() -> None:
    config = TextEncoderConfig(
        architecture=TextArchitecture.PRETRAINED, pooling=Pooling.MEAN, pretrained={"model_type": "bert", "layers": [1]}
    )

    assert TextEncoderConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_image_config_survives_a_round_trip_through_json() -> None:
    assert ImageEncoderConfig.from_json(json.loads(json.dumps(IMAGE.to_json()))) == IMAGE


@pytest.mark.parametrize("config", [TextEncoderConfig, ImageEncoderConfig])
def test_an_unknown_field_is_named(config: type[TextEncoderConfig] | type[ImageEncoderConfig]) -> None:
    with pytest.raises(ValueError, match="has no field depth"):
        config.from_json({"depth": 3})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vocab_size": 0}, r"vocab_size \(0\) must be >= 1"),
        ({"dropout": 1.0}, r"dropout \(1.0\) must be in \[0, 1\)"),
        ({"init_scale": 0.0}, r"init_scale \(0.0\) must be > 0"),
        ({"width": 15}, r"width \(15\) must be even"),
        ({"pooling": Pooling.CLS}, "pooling 'cls' needs a transformer"),
        ({"towers": 3}, r"towers \(3\) must be 1"),
        ({"towers": 2, "normalize": False}, "needs normalize"),
        ({"architecture": TextArchitecture.TRANSFORMER, "width": 30, "heads": 4}, r"multiple of heads \(4\)"),
        ({"architecture": TextArchitecture.PRETRAINED}, "pretrained must be a Hugging Face configuration"),
        ({"pretrained": {"model_type": "bert"}}, "pretrained must be a Hugging Face configuration"),
    ],
)
def test_text_fields_are_checked_against_each_other(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextEncoderConfig.from_json(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"architecture": "resnet19"}, "architecture 'resnet19' is unknown; it must be one of tiny-resnet"),
        ({"image_size_px": 0}, r"image_size_px \(0\) must be >= 1"),
        ({"architecture": "efficientnet-lite0", "small_stem": True}, "small_stem is not available"),
        ({"small_stem": False}, "made for small images"),
        ({"architecture": "resnet18", "drop_path": 0.1}, r"drop_path \(0.1\) is for ViT"),
        ({"architecture": "vit-tiny", "drop_path": 1.0}, r"drop_path \(1.0\) must be in"),
        ({"architecture": "vit-tiny", "image_size_px": 100}, r"multiple of the patch size \(16 px\)"),
    ],
)
def test_image_fields_are_checked_against_each_other(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageEncoderConfig.from_json(values)


@pytest.mark.parametrize(
    ("architecture", "size_px", "asked", "expected"),
    [
        ("resnet18", 64, None, True),
        ("resnet18", 65, None, False),
        ("resnet18", 32, False, False),
        ("resnet18", 224, True, True),
        ("efficientnet-lite0", 32, None, False),
        ("tiny-resnet", 96, None, True),
    ],
)
def test_the_small_stem_is_chosen_by_size_and_can_be_told(
    architecture: str, size_px: int, asked: bool | None, expected: bool
) -> None:
    config = ImageEncoderConfig(architecture=architecture, image_size_px=size_px, small_stem=asked)

    assert config.has_small_stem is expected


@pytest.mark.parametrize("architecture", ["resnet18", "tiny-resnet", "efficientnet-lite0"])
def test_a_convolutional_encoder_reads_another_size_with_the_stem_it_has(architecture: str) -> None:
    trained = ImageEncoderConfig(architecture=architecture, image_size_px=64)

    larger = trained.at_size(96)

    assert larger.image_size_px == 96
    assert larger.has_small_stem is trained.has_small_stem
    assert larger.at_size(64).has_small_stem is trained.has_small_stem


def test_a_vit_reads_the_size_it_was_trained_with() -> None:
    assert IMAGE.at_size(96) == IMAGE
    with pytest.raises(ValueError, match="vit-tiny reads images of the 96 px it was trained with, not of 128 px"):
        IMAGE.at_size(128)


def test_the_served_width_counts_both_towers() -> None:
    assert TEXT.served_width == 48


def test_configurations_load_no_torch() -> None:
    program = "import sys, models.config; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

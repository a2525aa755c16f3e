"""Makes image encoders from a configuration: timm's backbones by their own keys, and the tiny ResNet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import timm
from torch import nn

from models.config import ImageEncoderConfig
from models.freezing import Layer
from models.image.encoder import ImageEncoder
from models.image.tiny_resnet import TINY_STAGES, TinyResNet
from models.image.weights import load_image_weights

__all__ = ["build_image_encoder", "load_image_weights"]


def build_image_encoder(config: ImageEncoderConfig) -> ImageEncoder:
    """Makes an image encoder with fresh weights from torch's generator.

    Args:
        config: Its shape.

    Returns:
        The encoder, in training mode.
    """
    return _BUILDERS[config.architecture](config).train()


def _build_tiny_resnet(config: ImageEncoderConfig) -> ImageEncoder:
    backbone = TinyResNet()
    stages = [Layer(f"stage.{position}", (f"stages.{position}",)) for position in range(len(TINY_STAGES))]
    return ImageEncoder(config, backbone, width=backbone.width, layers=[Layer("stem", ("stem",)), *stages])


def _build_resnet(config: ImageEncoderConfig) -> ImageEncoder:
    """Takes timm's ResNets, whose keys are torchvision's too, so weights of both load."""
    backbone = _create(config.architecture)
    if config.has_small_stem:
        # SimCLR, appendix B.9: "we replace the first 7x7 Conv of stride 2 with 3x3 Conv of stride 1, and also remove
        # the first max pooling operation".
        backbone.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(backbone.conv1.weight, mode="fan_out", nonlinearity="relu")
        backbone.maxpool = nn.Identity()
    stages = [Layer(f"layer{number}", (f"layer{number}",)) for number in range(1, 5)]
    return ImageEncoder(
        config, backbone, width=int(backbone.num_features), layers=[Layer("stem", ("conv1", "bn1")), *stages]
    )


def _build_vit(config: ImageEncoderConfig) -> ImageEncoder:
    backbone = _create(
        f"{config.architecture.replace('-', '_')}_patch16_224",
        img_size=config.image_size_px,
        patch_size=config.patch_size_px,
        drop_path_rate=config.drop_path,
    )
    blocks = [Layer(f"block.{position}", (f"blocks.{position}",)) for position in range(len(backbone.blocks))]
    stem = Layer("embeddings", ("patch_embed", "cls_token", "pos_embed"))
    return ImageEncoder(
        config, backbone, width=int(backbone.num_features), layers=[stem, *blocks, Layer("output", ("norm",))]
    )


def _build_efficientnet_lite0(config: ImageEncoderConfig) -> ImageEncoder:
    """Takes timm's TensorFlow port: "SAME" padding and a BatchNorm epsilon of 1e-3."""
    backbone = _create("tf_efficientnet_lite0", drop_path_rate=config.drop_path)
    stages = [Layer(f"stage.{position}", (f"blocks.{position}",)) for position in range(len(backbone.blocks))]
    layers = [Layer("stem", ("conv_stem", "bn1")), *stages, Layer("output", ("conv_head", "bn2"))]
    return ImageEncoder(config, backbone, width=int(backbone.num_features), layers=layers)


def _create(name: str, **options: Any) -> Any:
    # The backbones' attributes differ by family and timm declares them only on the concrete classes.
    return timm.create_model(name, pretrained=False, num_classes=0, **options)


_BUILDERS: Final[Mapping[str, Callable[[ImageEncoderConfig], ImageEncoder]]] = {
    "tiny-resnet": _build_tiny_resnet,
    "resnet18": _build_resnet,
    "resnet34": _build_resnet,
    "resnet50": _build_resnet,
    "vit-tiny": _build_vit,
    "vit-small": _build_vit,
    "efficientnet-lite0": _build_efficientnet_lite0,
}

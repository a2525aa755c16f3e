"""What an encoder is made of, in words that load no torch: read by the command, saved in every run and bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any, Self

__all__ = [
    "IMAGE_ARCHITECTURES",
    "ImageEncoderConfig",
    "Normalization",
    "Pooling",
    "TextArchitecture",
    "TextEncoderConfig",
]

IMAGE_ARCHITECTURES = (
    "tiny-resnet",
    "resnet18",
    "resnet34",
    "resnet50",
    "vit-tiny",
    "vit-small",
    "efficientnet-lite0",
)
"""Every image architecture by the name a user types."""

_SMALL_IMAGE_PX = 64
"""Up to this side an image would be a few cells after the usual stem, so the small-image stem is taken."""


class Pooling(StrEnum):
    """How the states of a text's tokens become one vector."""

    MEAN = "mean"
    """Mean over the tokens that are not padding."""
    CLS = "cls"
    """State of the first token; a transformer's only."""
    LAST = "last"
    """Transformer: state of the last token that is not padding. GRU: the final states of both directions."""


class TextArchitecture(StrEnum):
    """Kinds of sentence encoder."""

    GRU = "gru"
    """Bidirectional GRU, as in Quick-Thoughts."""
    TRANSFORMER = "transformer"
    """A small BERT from scratch, which Hugging Face knows."""
    PRETRAINED = "pretrained"
    """Whatever a Hugging Face configuration describes."""


class Normalization(StrEnum):
    """What is subtracted from pixels and what divides them; trained weights go with the one they were trained with."""

    IMAGENET = "imagenet"
    """Mean and standard deviation of ImageNet's channels: torchvision's weights and most of timm's."""
    SYMMETRIC = "symmetric"
    """(x - 127) / 128 of 8-bit values: TensorFlow's EfficientNet-Lite, and close to Inception's and ViT's 0.5."""

    @property
    def mean(self) -> tuple[float, float, float]:
        """Per channel, R G B, of values in [0, 1]."""
        return (0.485, 0.456, 0.406) if self is Normalization.IMAGENET else (127 / 255,) * 3

    @property
    def std(self) -> tuple[float, float, float]:
        """Per channel, R G B, of values in [0, 1]."""
        return (0.229, 0.224, 0.225) if self is Normalization.IMAGENET else (128 / 255,) * 3


@dataclass(frozen=True, kw_only=True, slots=True)
class TextEncoderConfig:
    """A sentence encoder's shape. `vocab_size` and `max_tokens` are the tokenizer's limits too."""

    architecture: TextArchitecture = TextArchitecture.GRU
    """Kind of encoder."""
    vocab_size: int = 16_384
    """Rows of the embedding table."""
    width: int = 512
    """Width of one tower's vector; even for a GRU, which has half of it in each direction."""
    embedding_width: int = 256
    """GRU: width of a token's embedding. A transformer's is `width`."""
    layers: int = 1
    """Layers of the GRU or the transformer."""
    heads: int = 8
    """Transformer: attention heads; divides `width`."""
    max_tokens: int = 128
    """Longest text in tokens, special ones included; longer ones are cut."""
    pooling: Pooling = Pooling.LAST
    """How token states become one vector."""
    dropout: float = 0.0
    """Share of activations dropped in training, in [0, 1)."""
    init_scale: float = 0.1
    """GRU: weights start uniform in [-init_scale, init_scale]."""
    towers: int = 1
    """1: one encoder. 2: untied f and g; served as both unit halves concatenated, divided by the root of 2."""
    normalize: bool = True
    """Whether the served vector has unit length."""
    pretrained: Mapping[str, Any] | None = None
    """PRETRAINED: the Hugging Face configuration, as in `config.json`."""

    def __post_init__(self) -> None:
        """Checks the fields against each other."""
        _require_positive(self, "vocab_size", "width", "embedding_width", "layers", "heads", "max_tokens")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout ({self.dropout}) must be in [0, 1)")
        if self.init_scale <= 0:
            raise ValueError(f"init_scale ({self.init_scale}) must be > 0")
        if self.towers not in (1, 2):
            raise ValueError(f"towers ({self.towers}) must be 1 (tied) or 2 (untied f and g)")
        if self.towers == 2 and not self.normalize:
            raise ValueError("towers (2) needs normalize: the halves are made unit before they are joined")
        self._check_architecture()

    def _check_architecture(self) -> None:
        if (self.architecture is TextArchitecture.PRETRAINED) != (self.pretrained is not None):
            raise ValueError(
                f"pretrained must be a Hugging Face configuration exactly where architecture is 'pretrained' "
                f"(architecture '{self.architecture}', pretrained {'set' if self.pretrained is not None else 'None'})"
            )
        if self.architecture is TextArchitecture.GRU:
            if self.width % 2:
                raise ValueError(f"width ({self.width}) must be even for a GRU: half of it is each direction's")
            if self.pooling is Pooling.CLS:
                raise ValueError("pooling 'cls' needs a transformer; a GRU pools with 'last' or 'mean'")
        if self.architecture is TextArchitecture.TRANSFORMER and self.width % self.heads:
            raise ValueError(f"width ({self.width}) must be a multiple of heads ({self.heads})")

    @property
    def served_width(self) -> int:
        """Width of the served vector: both towers' together."""
        return self.width * self.towers

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON's own types."""
        return {**asdict(self), "architecture": str(self.architecture), "pooling": str(self.pooling)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Builds the configuration from `to_json`'s result.

        Args:
            values: Field values by name; an absent field takes its default.

        Returns:
            The configuration.

        Raises:
            ValueError: A field is unknown or its value is refused.
        """
        known = _known_fields(cls, values)
        if "architecture" in known:
            known["architecture"] = TextArchitecture(known["architecture"])
        if "pooling" in known:
            known["pooling"] = Pooling(known["pooling"])
        return cls(**known)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageEncoderConfig:
    """An image encoder's shape."""

    architecture: str = "tiny-resnet"
    """One of `IMAGE_ARCHITECTURES`."""
    image_size_px: int = 32
    """Side of the square image it is trained on and served with."""
    small_stem: bool | None = None
    """A stem that keeps a small image's resolution (ResNet: 3 by 3 stride 1, no max-pool; ViT: patches of 4 px).
    None: up to 64 px."""
    drop_path: float = 0.0
    """ViT and EfficientNet: share of residual branches dropped in training, in [0, 1)."""

    def __post_init__(self) -> None:
        """Checks the fields against each other."""
        if self.architecture not in IMAGE_ARCHITECTURES:
            raise ValueError(
                f"architecture '{self.architecture}' is unknown; it must be one of {', '.join(IMAGE_ARCHITECTURES)}"
            )
        _require_positive(self, "image_size_px")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path ({self.drop_path}) must be in [0, 1)")
        if self.architecture == "efficientnet-lite0" and self.small_stem:
            raise ValueError("small_stem is not available for efficientnet-lite0; leave it out or choose a ResNet")
        if self.architecture == "tiny-resnet" and self.small_stem is False:
            raise ValueError("small_stem (False) is not available for tiny-resnet, which is made for small images")
        if self.drop_path and "resnet" in self.architecture:
            raise ValueError(f"drop_path ({self.drop_path}) is for ViT and EfficientNet, not {self.architecture}")
        if self.architecture.startswith("vit") and self.image_size_px % self.patch_size_px:
            raise ValueError(
                f"image_size_px ({self.image_size_px}) must be a multiple of the patch size ({self.patch_size_px} px)"
            )

    @property
    def has_small_stem(self) -> bool:
        """Whether the encoder is built with the small-image stem."""
        if self.architecture == "efficientnet-lite0":
            return False
        if self.architecture == "tiny-resnet":
            return True
        return self.image_size_px <= _SMALL_IMAGE_PX if self.small_stem is None else self.small_stem

    @property
    def patch_size_px(self) -> int:
        """Side of a ViT's patch."""
        return 4 if self.has_small_stem else 16

    def at_size(self, image_size_px: int) -> ImageEncoderConfig:
        """Describes the same weights reading images of another size.

        Args:
            image_size_px: Side of the square.

        Returns:
            The configuration; its stem stays what it is.

        Raises:
            ValueError: It is a ViT, whose position embeddings are of one size.
        """
        if image_size_px == self.image_size_px:
            return self
        if self.architecture.startswith("vit"):
            raise ValueError(
                f"{self.architecture} reads images of the {self.image_size_px} px it was trained with, not of "
                f"{image_size_px} px: its position embeddings are of that size"
            )
        chooses_stem = self.architecture.startswith("resnet")
        stem = self.has_small_stem if chooses_stem else self.small_stem
        return replace(self, image_size_px=image_size_px, small_stem=stem)

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON's own types."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Builds the configuration from `to_json`'s result.

        Args:
            values: Field values by name; an absent field takes its default.

        Returns:
            The configuration.

        Raises:
            ValueError: A field is unknown or its value is refused.
        """
        return cls(**_known_fields(cls, values))


def _require_positive(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value < 1:
            raise ValueError(f"{name} ({value}) must be >= 1")


def _known_fields(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    known = {field.name for field in fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"{cls.__name__} has no field {', '.join(unknown)}; it was written by another version")
    return dict(values)

"""Reads a file of an image backbone's weights as something to export."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from models.bundle.encoder import Modality
from models.bundle.manifest import Limits, Prompts, Provenance
from models.bundle.preprocessing import ImagePreprocessing, Resize
from models.config import ImageEncoderConfig, Normalization
from models.image.build import build_image_encoder
from models.image.served import ServedImageEncoder
from models.image.weights import load_image_weights
from training.export.image_files import write_image_files
from training.export.source import ExportSource, library_versions

__all__ = ["WeightsFile", "read_weights"]


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsFile:
    """What a file of weights does not say of itself."""

    architecture: str
    """Image architecture whose weights they are."""
    size_px: int = 224
    """Side of the square that the encoder sees, at least 1."""
    resize: Resize = Resize.CROP
    """How an oblong image becomes that square."""
    normalization: Normalization | None = None
    """What the weights were trained with; where None, symmetric for `efficientnet-lite0` and ImageNet's otherwise."""

    @property
    def preprocessing(self) -> ImagePreprocessing:
        """What is done to an image before the encoder sees it."""
        is_lite = self.architecture == "efficientnet-lite0"
        chosen = self.normalization or (Normalization.SYMMETRIC if is_lite else Normalization.IMAGENET)
        return ImagePreprocessing(size_px=self.size_px, resize=self.resize, mean=chosen.mean, std=chosen.std)


def read_weights(file: Path, described: WeightsFile) -> ExportSource:
    """Loads a backbone's weights.

    Args:
        file: `.safetensors`, or what `torch.load(weights_only=True)` reads; torchvision's, timm's and other usual keys.
        described: What the file does not say.

    Returns:
        What is to be exported.

    Raises:
        ValueError: The file cannot be read, or holds another architecture's tensors.
    """
    config = ImageEncoderConfig(architecture=described.architecture, image_size_px=described.size_px)
    encoder = build_image_encoder(config)
    load_image_weights(encoder, file)
    return ExportSource(
        modality=Modality.IMAGE,
        served=ServedImageEncoder(encoder).eval(),
        preparation=described.preprocessing,
        limits=Limits(image_size_px=described.size_px),
        pooling="backbone",
        metric="cosine",
        prompts=Prompts(),
        provenance=Provenance(
            method="imported", config={"encoder": config.to_json(), "weights": file.name}, versions=library_versions()
        ),
        write_files=partial(write_image_files, config, described.preprocessing),
    )

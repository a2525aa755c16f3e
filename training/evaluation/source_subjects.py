"""Subjects from runs and model directories: as they are, or with fresh weights of the same shape."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.bundle.encoder import Modality
from models.bundle.identity import digest_tensors
from models.bundle.preprocessing import ImagePreprocessing
from models.bundle.tokens import Tokenizer
from models.config import ImageEncoderConfig, Normalization, TextEncoderConfig
from models.image.build import build_image_encoder, load_image_weights
from models.image.served import ServedImageEncoder
from models.text.build import build_text_encoder
from models.text.encoder import TextEncoder
from models.text.served import ServedTextEncoder
from training.evaluation.layers import ImageLayer
from training.evaluation.subjects import ImageSubject, Subject, SubjectInfo
from training.evaluation.torch_subjects import TorchPixelEncoder, TorchTextSubject, TorchTowerSubject
from training.export.directory_source import read_directory
from training.methods.text.quick_thoughts import Similarity
from training.run_folder import load_run

__all__ = [
    "EncoderParts",
    "directory_parts",
    "efficientnet_subject",
    "image_subject",
    "run_parts",
    "text_subject",
    "trained_subject",
    "untrained_subject",
]

_EFFICIENTNET = ImageEncoderConfig(architecture="efficientnet-lite0", image_size_px=224)
_EFFICIENTNET_PIXELS = ImagePreprocessing(
    size_px=224, mean=Normalization.SYMMETRIC.mean, std=Normalization.SYMMETRIC.std
)


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderParts:
    """An encoder in torch with what belongs to it, whether it comes from a run or from a directory."""

    served: ServedTextEncoder | ServedImageEncoder
    preparation: Tokenizer | ImagePreprocessing
    max_tokens: int = 0
    """Longest text, special tokens included; 0 for images."""
    prompt: str = ""
    """What is written before every text."""
    seed: int | None = None
    """Of its training."""
    has_tower_score: bool = False
    """Whether training compares f and g by their inner product as they are."""


def run_parts(path: Path, *, image_size_px: int | None = None) -> EncoderParts:
    """Loads a finished run.

    Args:
        path: The run's folder.
        image_size_px: As in `load_run`.

    Returns:
        Its encoder.

    Raises:
        ValueError: There is no finished run, a part is missing, or it reads no images of that size.
    """
    run = load_run(path, image_size_px=image_size_px)
    preparation = run.tokenizer or run.preprocessing
    if preparation is None:
        raise ValueError(f"the run in {path} has neither tokenizer nor preprocessing; train it again")
    method = run.config["method"]
    return EncoderParts(
        served=run.served,
        preparation=preparation,
        max_tokens=run.encoder.max_tokens if isinstance(run.encoder, TextEncoderConfig) else 0,
        seed=run.provenance["seed"],
        has_tower_score=isinstance(method, dict) and method.get("similarity") == Similarity.INNER_PRODUCT,
    )


def directory_parts(path: Path) -> EncoderParts:
    """Loads a Hugging Face or sentence-transformers directory.

    Args:
        path: The directory.

    Returns:
        Its encoder.
    """
    source = read_directory(path)
    return EncoderParts(
        served=source.served,
        preparation=source.preparation,
        max_tokens=source.limits.max_tokens,
        prompt=source.prompts.document,
    )


def trained_subject(parts: EncoderParts, *, name: str, layer: str | None = None) -> Subject:
    """Makes a subject of an encoder as it is.

    Args:
        parts: The encoder.
        name: What people call it.
        layer: An inner layer of an image encoder, to measure in the representation's place.

    Returns:
        The subject; a run that trains by inner products has its training score too.

    Raises:
        ValueError: A layer was asked of a sentence encoder, or the encoder has no such layer.
    """
    if layer is not None:
        if not isinstance(parts.served, ServedImageEncoder) or not isinstance(parts.preparation, ImagePreprocessing):
            raise ValueError(f"--layer {layer}: layers are measured of image encoders, and {name} reads texts")
        return image_subject(parts.served, parts.preparation, name=name, seed=parts.seed, layer=layer)
    return _subject(parts, parts.served, name=name, seed=parts.seed)


def untrained_subject(parts: EncoderParts, *, seed: int) -> Subject:
    """Makes the floor that says what the shape alone is worth: fresh weights, same tokenizer and preprocessing.

    Args:
        parts: The encoder whose shape it has.
        seed: Of the weights.

    Returns:
        The subject, named `untrained`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        served = _fresh(parts.served)
    return _subject(parts, served, name="untrained", seed=seed)


def efficientnet_subject(folder: Path) -> ImageSubject:
    """Makes the frozen EfficientNet-Lite0 of the packaged weights, at its own 224 px.

    Args:
        folder: Holds one file of weights.

    Returns:
        The subject.

    Raises:
        ValueError: The folder holds no or several files of weights.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix in {".pth", ".safetensors"})
    if len(files) != 1:
        raise ValueError(f"{folder} must hold one file of weights (.pth or .safetensors), found {len(files)}")
    encoder = build_image_encoder(_EFFICIENTNET)
    load_image_weights(encoder, files[0])
    return image_subject(ServedImageEncoder(encoder), _EFFICIENTNET_PIXELS, name="efficientnet-lite0", seed=None)


def text_subject(
    served: ServedTextEncoder,
    tokenizer: Tokenizer,
    *,
    max_tokens: int,
    name: str,
    seed: int | None = None,
    prompt: str = "",
    has_tower_score: bool = False,
) -> TorchTextSubject:
    """Makes a subject of a sentence encoder in memory.

    Args:
        served: The encoder as served.
        tokenizer: Cuts texts as in training.
        max_tokens: Longest text, special tokens included.
        name: What people call it.
        seed: Of its training.
        prompt: What is written before every text.
        has_tower_score: Whether training compares f and g by their inner product as they are.

    Returns:
        The subject.
    """
    info = SubjectInfo(name=name, fingerprint=_fingerprint(served), modality=Modality.TEXT, seed=seed)
    kind = TorchTowerSubject if has_tower_score else TorchTextSubject
    return kind(info, served, tokenizer, max_tokens=max_tokens, prompt=prompt)


def image_subject(
    served: ServedImageEncoder,
    preprocessing: ImagePreprocessing,
    *,
    name: str,
    seed: int | None = None,
    layer: str | None = None,
) -> ImageSubject:
    """Makes a subject of an image encoder in memory.

    Args:
        served: The encoder as served.
        preprocessing: What is done to an image before it.
        name: What people call it.
        seed: Of its training.
        layer: An inner layer to measure in the representation's place.

    Returns:
        The subject.
    """
    measured = served if layer is None else ImageLayer(served.encoder, layer)
    info = SubjectInfo(
        name=name,
        fingerprint=_fingerprint(served),
        modality=Modality.IMAGE,
        layer=layer or "embedding",
        seed=seed,
        flops=_count_flops(served.eval(), preprocessing.size_px),
    )
    return ImageSubject(info, TorchPixelEncoder(measured, preprocessing))


def _subject(
    parts: EncoderParts, served: ServedTextEncoder | ServedImageEncoder, *, name: str, seed: int | None
) -> Subject:
    if isinstance(served, ServedTextEncoder) and isinstance(parts.preparation, Tokenizer):
        return text_subject(
            served,
            parts.preparation,
            max_tokens=parts.max_tokens,
            name=name,
            seed=seed,
            prompt=parts.prompt,
            has_tower_score=parts.has_tower_score,
        )
    if isinstance(served, ServedImageEncoder) and isinstance(parts.preparation, ImagePreprocessing):
        return image_subject(served, parts.preparation, name=name, seed=seed)
    raise ValueError(f"{name} has a preparation of another modality than its encoder: it cannot be measured")


def _fresh(served: ServedTextEncoder | ServedImageEncoder) -> ServedTextEncoder | ServedImageEncoder:
    if isinstance(served, ServedImageEncoder):
        return ServedImageEncoder(build_image_encoder(served.encoder.config))
    towers = [build_text_encoder(tower.config) for tower in served.towers if isinstance(tower, TextEncoder)]
    return ServedTextEncoder(towers, normalize=served.normalize)


def _fingerprint(served: nn.Module) -> str:
    return digest_tensors({name: tensor.detach().cpu().numpy() for name, tensor in served.state_dict().items()})


def _count_flops(served: nn.Module, size_px: int) -> float:
    device = next(served.parameters()).device
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        served(torch.zeros(1, 3, size_px, size_px, device=device))
    return float(counter.get_total_flops())

"""Subjects from runs and model directories: as they are, or with fresh weights of the same shape."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.bundle.encoder import Modality
from models.bundle.identity import digest_tensors
from models.bundle.preprocessing import ImagePreprocessing
from models.bundle.tokens import Tokenizer
from models.config import ImageEncoderConfig
from models.image.build import build_image_encoder, load_image_weights
from models.image.served import ServedImageEncoder
from models.text.build import build_text_encoder
from models.text.encoder import TextEncoder
from models.text.served import ServedTextEncoder
from training.evaluation.subjects import ImageSubject, Subject, SubjectInfo
from training.evaluation.torch_subjects import TorchPixelEncoder, TorchTextSubject, TorchTowerSubject
from training.export.source import ExportSource

__all__ = ["efficientnet_subject", "image_subject", "source_subject", "text_subject", "untrained_subject"]

_EFFICIENTNET = ImageEncoderConfig(architecture="efficientnet-lite0", image_size_px=224)
# The package's own: (x - 127) / 128 of 8-bit RGB.
_EFFICIENTNET_PIXELS = ImagePreprocessing(size_px=224, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)


def source_subject(source: ExportSource, *, name: str) -> Subject:
    """Makes a subject of a run or a directory, in torch.

    Args:
        source: What was read.
        name: What people call it.

    Returns:
        The subject; a run that trains by inner products has its training score too.
    """
    return _subject(source, source.served, name=name, seed=source.provenance.seed)


def untrained_subject(source: ExportSource, *, seed: int) -> Subject:
    """Makes the floor that says what the shape alone is worth: fresh weights, same tokenizer and preprocessing.

    Args:
        source: The run or directory whose shape it has.
        seed: Of the weights.

    Returns:
        The subject, named `untrained`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        served = _fresh(source.served)
    return _subject(source, served, name="untrained", seed=seed)


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
    served: ServedImageEncoder, preprocessing: ImagePreprocessing, *, name: str, seed: int | None = None
) -> ImageSubject:
    """Makes a subject of an image encoder in memory.

    Args:
        served: The encoder as served.
        preprocessing: What is done to an image before it.
        name: What people call it.
        seed: Of its training.

    Returns:
        The subject.
    """
    info = SubjectInfo(
        name=name,
        fingerprint=_fingerprint(served),
        modality=Modality.IMAGE,
        seed=seed,
        flops=_count_flops(served.eval(), preprocessing.size_px),
    )
    return ImageSubject(info, TorchPixelEncoder(served, preprocessing))


def _subject(
    source: ExportSource, served: ServedTextEncoder | ServedImageEncoder, *, name: str, seed: int | None
) -> Subject:
    if isinstance(served, ServedTextEncoder) and isinstance(source.preparation, Tokenizer):
        return text_subject(
            served,
            source.preparation,
            max_tokens=source.limits.max_tokens,
            name=name,
            seed=seed,
            prompt=source.prompts.document,
            has_tower_score=_trains_by_inner_product(source),
        )
    if isinstance(served, ServedImageEncoder) and isinstance(source.preparation, ImagePreprocessing):
        return image_subject(served, source.preparation, name=name, seed=seed)
    raise ValueError(f"{name} has a preparation of another modality than its encoder: it cannot be measured")


def _trains_by_inner_product(source: ExportSource) -> bool:
    settings = source.provenance.config.get("settings", {})
    similarity = settings.get("similarity", "inner-product") if isinstance(settings, dict) else "inner-product"
    return source.provenance.method == "quick-thoughts" and similarity == "inner-product"


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

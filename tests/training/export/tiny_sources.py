"""Encoders small enough to export in a second or two."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from models.bundle.encoder import Modality
from models.bundle.manifest import Limits, Prompts, Provenance
from models.bundle.preprocessing import ImagePreprocessing
from models.bundle.tokens import Tokenizer
from models.config import ImageEncoderConfig, Pooling, TextArchitecture, TextEncoderConfig
from models.image.build import build_image_encoder
from models.image.served import ServedImageEncoder
from models.text.build import build_text_encoder
from models.text.served import ServedTextEncoder
from tests.models.bundle.tiny_bundle import make_tokenizer
from training.export import seal
from training.export.image_files import write_image_files
from training.export.source import ExportSource, ReferenceSample
from training.export.text_files import write_text_files

__all__ = ["TRANSFORMER", "TWO_GRUS", "image_source", "reuse_graph", "text_source"]

_VOCABULARY = Tokenizer(make_tokenizer()).vocab_size

TRANSFORMER = TextEncoderConfig(
    architecture=TextArchitecture.TRANSFORMER,
    vocab_size=_VOCABULARY,
    width=32,
    layers=2,
    heads=4,
    max_tokens=24,
    pooling=Pooling.MEAN,
)
TWO_GRUS = TextEncoderConfig(
    architecture=TextArchitecture.GRU, vocab_size=_VOCABULARY, width=16, embedding_width=8, max_tokens=24, towers=2
)


def text_source(config: TextEncoderConfig, *, seed: int = 0, reference: ReferenceSample | None = None) -> ExportSource:
    torch.manual_seed(seed)
    towers = [build_text_encoder(config) for _ in range(config.towers)]
    served = ServedTextEncoder(towers, normalize=config.normalize).eval()
    tokenizer = Tokenizer(make_tokenizer())

    def write(folder: Path, prompts: Prompts) -> None:
        write_text_files(folder, served, config, tokenizer=tokenizer, prompts=prompts)

    return ExportSource(
        modality=Modality.TEXT,
        served=served,
        preparation=tokenizer,
        limits=Limits(max_tokens=config.max_tokens),
        pooling=str(config.pooling),
        metric="cosine",
        prompts=Prompts(),
        provenance=Provenance(method="quick-thoughts", config={"steps": 3}, data_fingerprint="data", seed=seed),
        write_files=write,
        reference=reference,
    )


def image_source(*, seed: int = 0) -> ExportSource:
    torch.manual_seed(seed)
    config = ImageEncoderConfig(architecture="tiny-resnet", image_size_px=16)
    preprocessing = ImagePreprocessing(size_px=16)
    served = ServedImageEncoder(build_image_encoder(config)).eval()
    return ExportSource(
        modality=Modality.IMAGE,
        served=served,
        preparation=preprocessing,
        limits=Limits(image_size_px=16),
        pooling="backbone",
        metric="cosine",
        prompts=Prompts(),
        provenance=Provenance(method="simclr"),
        write_files=partial(write_image_files, config, preprocessing),
    )


def reuse_graph(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    """Makes further exports take a graph that is there already: the exporter is what takes the time."""
    graph = (bundle / "onnx" / "model.onnx").read_bytes()

    def write(served: object, path: Path, *, max_tokens: int) -> None:
        path.write_bytes(graph)

    monkeypatch.setattr(seal, "export_text_graph", write)

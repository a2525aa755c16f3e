"""Torch and ONNX on 1,000 real inputs, batched and alone: the promise that is made of every bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.bundle.encoder import Encoder
from models.bundle.load import load_bundle
from models.bundle.manifest import Manifest, Prompts
from models.bundle.preprocessing import Resize
from tests.e2e.real_inputs import real_images, real_texts
from training.corpora.catalogue import fetch
from training.export.directory_source import read_directory
from training.export.export import export_source
from training.export.source import ExportConfig, ExportSource
from training.export.torch_vectors import embed_in_torch
from training.export.weights_source import WeightsFile, read_weights

COUNT = 1_000
BATCHES = (8, 32)


def embed(encoder: Encoder, items: list[str] | list[bytes], batch_size: int) -> NDArray[np.float32]:
    prepared = [encoder.prepare(item) for item in items]
    starts = range(0, len(prepared), batch_size)
    return np.concatenate([encoder.run(prepared[start : start + batch_size]) for start in starts])


def check(source: ExportSource, bundle: Path, items: list[str] | list[bytes]) -> Manifest:
    manifest = export_source(source, bundle, ExportConfig())
    encoder = load_bundle(bundle, threads=torch.get_num_threads()).encoders[str(source.modality)]
    wanted = embed_in_torch(source, items, Prompts())
    tolerance = manifest.encoders[0].golden.tolerance
    assert len(items) == COUNT
    for batch_size in (1, *BATCHES):
        deviation = float(np.abs(embed(encoder, items, batch_size) - wanted).max())
        assert deviation <= tolerance, f"{source.modality}, batches of {batch_size}"
    return manifest


@pytest.mark.slow
def test_minilm_agrees_on_a_thousand_wikipedia_texts(tmp_path: Path) -> None:
    texts = real_texts(COUNT)
    source = read_directory(fetch("minilm"))
    encoder_limit = source.limits.max_tokens

    check(source, tmp_path / "minilm", texts)

    lengths = [
        len(load_bundle(tmp_path / "minilm", verify=False).encoders["text"].prepare(text).array) for text in texts
    ]
    assert max(lengths) == encoder_limit
    assert min(lengths) < 6
    assert len(set(lengths)) > 100


@pytest.mark.slow
def test_efficientnet_agrees_on_a_thousand_drawings(tmp_path: Path) -> None:
    weights = next(fetch("efficientnet-lite0").glob("*.pth"))
    source = read_weights(weights, WeightsFile(architecture="efficientnet-lite0", resize=Resize.SQUASH))
    check(source, tmp_path / "efficientnet", real_images(COUNT))

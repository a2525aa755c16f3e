"""What is sent, and the bundles that it is sent to; made once and kept."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.results import ensure_pack
from training.corpora.catalogue import fetch
from training.corpora.image_pack import ImagePack
from training.corpora.splits import Split
from training.corpora.text_pack import TextPack
from training.export.export import export_directory, export_source
from training.export.source import ExportConfig
from training.export.weights_source import WeightsFile, read_weights

__all__ = ["image_bundle", "images", "text_bundle", "texts", "write_json"]


def texts(out: Path, count: int) -> list[str]:
    """Returns Wikipedia sentences of mixed length."""
    pack = TextPack.open(ensure_pack("wiki", out / "full", quick=False))
    found = [sentence for document in pack.documents(Split.TEST) for sentence in document.sentences]
    picked = np.random.default_rng(0).choice(len(found), min(count, len(found)), replace=False)
    return [found[number] for number in picked]


def images(out: Path, count: int) -> list[bytes]:
    """Returns emoji as their vendors made them: PNG and WebP files of mixed size."""
    pack = ImagePack.open(ensure_pack("emoji", out / "full", quick=False, size_px=32))
    picked = np.random.default_rng(0).choice(len(pack), min(count, len(pack)), replace=False)
    return [pack.original(int(number)) for number in picked]


def text_bundle(out: Path) -> Path:
    """Returns MiniLM's bundle, with an fp32 and an int8 graph."""
    bundle = out / "serving" / "bundles" / "minilm"
    if not bundle.is_dir():
        bundle.parent.mkdir(parents=True, exist_ok=True)
        export_directory(fetch("minilm"), bundle, precisions=("fp32", "int8"))
    return bundle


def image_bundle(out: Path) -> Path:
    """Returns EfficientNet-Lite0's bundle, 224 px."""
    bundle = out / "serving" / "bundles" / "efficientnet-lite0"
    if bundle.is_dir():
        return bundle
    weights = next(fetch("efficientnet-lite0").glob("*.pth"))
    source = read_weights(weights, WeightsFile(architecture="efficientnet-lite0"))
    bundle.parent.mkdir(parents=True, exist_ok=True)
    export_source(source, bundle, ExportConfig())
    return bundle


def write_json(items: Sequence[str | bytes], file: Path) -> Path:
    """Writes texts, or images in base64, for the load's process."""
    file.write_text(json.dumps([b64encode(one).decode() if isinstance(one, bytes) else one for one in items]))
    return file

"""Seals an encoder: makes its graphs, proves them against torch, and writes down what must hold ever after."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from models.bundle.assemble import assemble_encoder, digest_preparation, identify
from models.bundle.encoder import Encoder
from models.bundle.golden import Agreement, Golden, find_agreement_fault, measure_agreement
from models.bundle.identity import compute_space, digest_file, digest_tensors
from models.bundle.manifest import (
    FORMAT_VERSION,
    EncoderEntry,
    FileEntry,
    GoldenEntry,
    GraphEntry,
    Manifest,
    Prompts,
    Quantisation,
    write_manifest,
)
from models.bundle.tokens import Tokenizer
from models.bundle.verify import BATCH_SIZES
from models.image.served import ServedImageEncoder
from training.export.errors import ExportError
from training.export.golden import make_golden_images, make_golden_texts
from training.export.graph import export_image_graph, export_text_graph
from training.export.int8 import find_calibration, write_int8
from training.export.retrieval import measure_retrieval
from training.export.source import ExportConfig, ExportSource
from training.export.torch_vectors import embed_in_torch

__all__ = ["GOLDEN_TOLERANCE", "ExportError", "seal"]

GOLDEN_TOLERANCE: Final = 1e-4
"""What a component may differ from torch's on any machine; 1e-6 is usual, other processors add in another order."""
_DYNAMIC_BATCH_TOLERANCE: Final = 0.02
"""The least that is allowed of a dynamic graph, whose scales depend on the whole batch."""
_STATIC_BATCH_TOLERANCE: Final = 0.005
"""The least that is allowed of a static graph: a value on the edge of two codes may fall to either side."""
_GRAPH_FILES: Final = {"fp32": "onnx/model.onnx", "int8": "onnx/model_int8.onnx"}


def seal(source: ExportSource, folder: Path, *, name: str, config: ExportConfig) -> Manifest:
    """Fills a folder with a complete bundle.

    Args:
        source: What is exported.
        folder: Where to, empty.
        name: What the encoder is called in requests.
        config: Precisions, prompts, results.

    Returns:
        The manifest, as written.

    Raises:
        ExportError: ONNX Runtime does not reproduce torch on the golden inputs, or the int8 graph loses more than the
            limit on real ones.
    """
    prompts = config.choose_prompts(source.prompts)
    calibration = find_calibration(source, config)
    source.write_files(folder, prompts)
    golden = _write_golden(source, folder, prompts)
    precisions = [precision for precision in _GRAPH_FILES if precision == "fp32" or precision in config.precisions]
    _write_exact(source, folder)
    if "int8" in precisions:
        exact, quantised = (folder / _GRAPH_FILES[precision] for precision in ("fp32", "int8"))
        write_int8(source, exact, quantised, prompts=prompts, calibration=calibration)
    manifest = _draft(source, folder, name=name, config=config, prompts=prompts, precisions=precisions)
    (entry,) = manifest.encoders
    encoders = {
        precision: assemble_encoder(folder, manifest, entry, precision=precision, threads=_threads())
        for precision in precisions
    }
    for precision, encoder in encoders.items():
        entry = _prove(encoder, manifest, entry, precision=precision, golden=golden)
    entry = measure_retrieval(
        encoders,
        entry,
        config.reference or source.reference,
        config,
        held_apart=() if calibration is None else calibration.items,
    )
    sealed = replace(manifest, encoders=(entry,))
    write_manifest(sealed, folder)
    return sealed


def _write_golden(source: ExportSource, folder: Path, prompts: Prompts) -> Golden:
    items: tuple[str | bytes, ...]
    (folder / "golden").mkdir()
    if isinstance(source.preparation, Tokenizer):
        texts = make_golden_texts(source.preparation, max_tokens=source.limits.max_tokens)
        listed = json.dumps(texts, indent=1, ensure_ascii=False)
        (folder / "golden" / "texts.json").write_text(listed + "\n", encoding="utf-8")
        items = texts
    else:
        images = make_golden_images()
        for number, image in enumerate(images):
            (folder / "golden" / f"{number:02d}.png").write_bytes(image)
        items = images
    vectors = embed_in_torch(source, items, prompts)
    if not np.isfinite(vectors).all():
        raise ExportError("torch itself gives vectors that are not finite; the training has diverged")
    np.save(folder / "golden" / "vectors.npy", vectors)
    return Golden(items=items, vectors=vectors)


def _write_exact(source: ExportSource, folder: Path) -> None:
    (folder / "onnx").mkdir()
    exact = folder / _GRAPH_FILES["fp32"]
    if isinstance(source.served, ServedImageEncoder):
        export_image_graph(source.served, exact, image_size_px=source.limits.image_size_px)
    else:
        export_text_graph(source.served, exact, max_tokens=source.limits.max_tokens)


def _draft(
    source: ExportSource,
    folder: Path,
    *,
    name: str,
    config: ExportConfig,
    prompts: Prompts,
    precisions: Sequence[str],
) -> Manifest:
    """Returns the manifest as it will be, but for what is measured next."""
    files = {
        path.relative_to(folder).as_posix(): FileEntry(sha256=digest_file(path), size_bytes=path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    tensors_sha256 = digest_tensors({key: value.numpy() for key, value in source.served.state_dict().items()})
    space = compute_space(
        tensors_sha256=tensors_sha256,
        preprocessing_sha256=digest_preparation(folder, source.modality),
        pooling=source.pooling,
        document_prompt=prompts.document,
    )
    inputs = [path for path in files if path.startswith("golden/") and not path.endswith(".npy")]
    entry = EncoderEntry(
        modality=source.modality,
        dimension=source.served.width,
        metric=source.metric,
        limits=source.limits,
        pooling=source.pooling,
        prompts=prompts,
        tensors_sha256=tensors_sha256,
        space=space,
        graphs={precision: _unmeasured(precision, config.quantisation) for precision in precisions},
        golden=GoldenEntry(inputs=tuple(inputs), vectors="golden/vectors.npy", tolerance=GOLDEN_TOLERANCE),
    )
    return Manifest(
        format_version=FORMAT_VERSION,
        name=name,
        version=config.version,
        provenance=source.provenance,
        evaluation=tuple(config.results),
        files=files,
        encoders=(entry,),
    )


def _unmeasured(precision: str, quantisation: Quantisation) -> GraphEntry:
    return GraphEntry(
        file=_GRAPH_FILES[precision],
        fingerprint="",
        golden_deviation=0.0,
        golden_cosine=1.0,
        batch_deviation=0.0,
        batch_tolerance=0.0,
        quantisation=Quantisation.NONE if precision == "fp32" else quantisation,
    )


def _prove(
    encoder: Encoder, manifest: Manifest, entry: EncoderEntry, *, precision: str, golden: Golden
) -> EncoderEntry:
    agreement = measure_agreement(encoder, golden, batch_sizes=BATCH_SIZES)
    graph = replace(
        entry.graphs[precision],
        golden_deviation=agreement.golden_deviation,
        golden_cosine=agreement.golden_cosine,
        batch_deviation=agreement.batch_deviation,
        batch_tolerance=_batch_tolerance(entry.graphs[precision].quantisation, agreement),
    )
    proved = replace(entry, graphs={**entry.graphs, precision: graph})
    fault = find_agreement_fault(proved, precision, agreement)
    if fault is not None:
        raise ExportError(f"nothing was exported: {fault}")
    identity = identify(manifest, proved, precision, golden_cosine=agreement.golden_cosine)
    named = replace(graph, fingerprint=identity.fingerprint)
    return replace(proved, graphs={**proved.graphs, precision: named})


def _batch_tolerance(quantisation: Quantisation, agreement: Agreement) -> float:
    if quantisation is Quantisation.NONE:
        return GOLDEN_TOLERANCE
    least = _STATIC_BATCH_TOLERANCE if quantisation is Quantisation.STATIC else _DYNAMIC_BATCH_TOLERANCE
    return max(least, 2 * agreement.batch_deviation)


def _threads() -> int:
    return max(1, torch.get_num_threads())

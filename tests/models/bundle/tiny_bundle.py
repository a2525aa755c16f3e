"""Bundles small enough to make in milliseconds, without torch; what they compute is written again in numpy."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from models.bundle.assemble import digest_preparation, identify
from models.bundle.encoder import Modality
from models.bundle.identity import compute_space, digest_file, digest_tensors
from models.bundle.manifest import (
    EncoderEntry,
    FileEntry,
    GoldenEntry,
    GraphEntry,
    Limits,
    Manifest,
    Prompts,
    Provenance,
    read_manifest,
    write_manifest,
)
from models.bundle.preprocessing import ImagePreprocessing
from models.bundle.strict_json import decode

__all__ = ["TEXTS", "TINY_PREPROCESSING", "make_image_bundle", "make_text_bundle", "make_tokenizer", "reseal", "words"]

TEXTS = (
    "a cat",
    "a dog sat on the mat by the door",
    "the cat",
    "stars",
    "one two three four five six seven eight nine",
)
TINY_PREPROCESSING = ImagePreprocessing(size_px=4, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
WIDTH = 6
MAX_TOKENS = 8


def words() -> list[str]:
    return sorted({word for text in TEXTS for word in text.split()} | {"query:"})


def make_tokenizer() -> Tokenizer:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words()]
    tokenizer = Tokenizer(models.WordLevel({token: number for number, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def make_text_bundle(
    folder: Path, *, name: str = "tiny-text", prompts: Prompts | None = None, int8_noise: float | None = None
) -> Manifest:
    """Mean of word vectors, at unit length; an `int8` graph is the same with noise on the vectors."""
    used = prompts or Prompts()
    table = np.random.default_rng(1).normal(size=(len(words()) + 4, WIDTH)).astype(np.float32)
    (folder / "onnx").mkdir(parents=True)
    (folder / "golden").mkdir()
    tokenizer = make_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    _save_text_graph(folder / "onnx" / "model.onnx", table)
    if int8_noise is not None:
        noise = np.random.default_rng(2).normal(size=table.shape).astype(np.float32)
        _save_text_graph(folder / "onnx" / "model_int8.onnx", table + int8_noise * noise)
    (folder / "golden" / "texts.json").write_text(json.dumps(TEXTS), encoding="utf-8")
    rows = [np.asarray(tokenizer.encode(used.document + text).ids) for text in TEXTS]
    cut = [row if len(row) <= MAX_TOKENS else np.append(row[: MAX_TOKENS - 1], 3) for row in rows]
    np.save(folder / "golden" / "vectors.npy", _unit(np.stack([table[row].mean(axis=0) for row in cut])))
    return _seal(
        folder,
        name=name,
        modality=Modality.TEXT,
        dimension=WIDTH,
        limits=Limits(max_tokens=MAX_TOKENS),
        prompts=used,
        tensors={"table": table},
    )


def make_image_bundle(folder: Path, *, name: str = "tiny-image") -> Manifest:
    """A linear map of the pixels, at unit length."""
    weight = np.random.default_rng(3).normal(size=(3 * 4 * 4, WIDTH)).astype(np.float32)
    (folder / "onnx").mkdir(parents=True)
    (folder / "golden").mkdir()
    (folder / "preprocessor_config.json").write_text(json.dumps(TINY_PREPROCESSING.to_config()), encoding="utf-8")
    _save_image_graph(folder / "onnx" / "model.onnx", weight)
    vectors = []
    for number, colour in enumerate([(200, 10, 30), (0, 90, 255), (120, 120, 119)]):
        stream = BytesIO()
        Image.new("RGB", (5 + number, 4), colour).save(stream, "PNG")
        (folder / "golden" / f"{number:02d}.png").write_bytes(stream.getvalue())
        pixels = (np.asarray(colour) / 255 - TINY_PREPROCESSING.mean) / TINY_PREPROCESSING.std
        vectors.append(np.repeat(pixels, 16) @ weight)
    np.save(folder / "golden" / "vectors.npy", _unit(np.stack(vectors).astype(np.float32)))
    return _seal(
        folder,
        name=name,
        modality=Modality.IMAGE,
        dimension=WIDTH,
        limits=Limits(image_size_px=4),
        prompts=Prompts(),
        tensors={"weight": weight},
    )


def reseal(folder: Path, change: Callable[[Path], None]) -> None:
    """Changes a file and makes hashes and seal fit again, as one does who knows the format."""
    change(folder)
    values = read_manifest(folder).to_json()
    for path, entry in values["files"].items():
        entry.update(sha256=digest_file(folder / path), size_bytes=(folder / path).stat().st_size)
    write_manifest(decode(Manifest, json.loads(json.dumps(values)), "changed"), folder)


def _seal(
    folder: Path,
    *,
    name: str,
    modality: Modality,
    dimension: int,
    limits: Limits,
    prompts: Prompts,
    tensors: dict[str, NDArray[np.float32]],
) -> Manifest:
    files = {
        path.relative_to(folder).as_posix(): FileEntry(sha256=digest_file(path), size_bytes=path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    tensors_sha256 = digest_tensors(tensors)
    space = compute_space(
        tensors_sha256=tensors_sha256,
        preprocessing_sha256=digest_preparation(folder, modality),
        pooling="mean",
        document_prompt=prompts.document,
    )
    present = {"fp32": "onnx/model.onnx", "int8": "onnx/model_int8.onnx"}
    entry = EncoderEntry(
        modality=modality,
        dimension=dimension,
        metric="cosine",
        limits=limits,
        pooling="mean",
        prompts=prompts,
        tensors_sha256=tensors_sha256,
        space=space,
        graphs={precision: _graph(file, "") for precision, file in present.items() if file in files},
        golden=GoldenEntry(
            inputs=tuple(path for path in files if path.startswith("golden/") and not path.endswith(".npy")),
            vectors="golden/vectors.npy",
            tolerance=1e-5,
        ),
    )
    manifest = Manifest(
        format_version=1,
        name=name,
        version="1",
        provenance=Provenance(method="by hand"),
        files=files,
        encoders=(entry,),
    )
    graphs = {
        precision: _graph(graph.file, identify(manifest, entry, precision, golden_cosine=1.0).fingerprint)
        for precision, graph in entry.graphs.items()
    }
    sealed = replace(manifest, encoders=(replace(entry, graphs=graphs),))
    write_manifest(sealed, folder)
    return sealed


def _graph(file: str, fingerprint: str) -> GraphEntry:
    return GraphEntry(
        file=file,
        fingerprint=fingerprint,
        golden_deviation=0.0,
        golden_cosine=1.0,
        batch_deviation=0.0,
        batch_tolerance=1e-5,
    )


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _save_text_graph(path: Path, table: NDArray[np.float32]) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),
        helper.make_node("Mul", ["last_hidden_state", "weights"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["sum"], keepdims=0),
        helper.make_node("LpNormalization", ["sum"], ["sentence_embedding"], axis=1, p=2),
    ]
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"]) for name in ("input_ids", "attention_mask")
    ]
    outputs = [
        helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["n", "t", WIDTH]),
        helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["n", WIDTH]),
    ]
    constants: dict[str, NDArray[np.float32] | NDArray[np.int64]] = {
        "table": table,
        "last": np.array([2], np.int64),
        "middle": np.array([1], np.int64),
    }
    _save(path, nodes, ids, outputs, constants)


def _save_image_graph(path: Path, weight: NDArray[np.float32]) -> None:
    nodes = [
        helper.make_node("Flatten", ["pixel_values"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weight"], ["product"]),
        helper.make_node("LpNormalization", ["product"], ["image_embedding"], axis=1, p=2),
    ]
    pixels = [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, 4, 4])]
    outputs = [helper.make_tensor_value_info("image_embedding", TensorProto.FLOAT, ["n", WIDTH])]
    _save(path, nodes, pixels, outputs, {"weight": weight})


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, NDArray[np.float32] | NDArray[np.int64]],
) -> None:
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))

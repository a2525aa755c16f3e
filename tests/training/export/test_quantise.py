from pathlib import Path

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]  # has no stubs
import pytest
import torch
from numpy.typing import NDArray

from models.config import Pooling, TextArchitecture, TextEncoderConfig
from models.text.build import build_text_encoder
from models.text.served import ServedTextEncoder
from training.export.graph import export_text_graph
from training.export.quantise import quantise_graph


def export(folder: Path, config: TextEncoderConfig) -> Path:
    torch.manual_seed(0)
    path = folder / "model.onnx"
    export_text_graph(ServedTextEncoder([build_text_encoder(config)]), path, max_tokens=config.max_tokens)
    return path


def embed(path: Path, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rows: NDArray[np.float32] = session.run(
        ["sentence_embedding"], {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    )[0]
    return rows


def test_int8_vectors_stay_near_the_fp32_ones_in_a_quarter_of_the_space(tmp_path: Path) -> None:
    config = TextEncoderConfig(
        architecture=TextArchitecture.TRANSFORMER,
        vocab_size=500,
        width=64,
        heads=4,
        layers=2,
        max_tokens=32,
        pooling=Pooling.MEAN,
    )
    exact = export(tmp_path, config)
    quantise_graph(exact, tmp_path / "model_int8.onnx")
    ids = np.random.default_rng(0).integers(1, 500, (8, 32))
    cosine = (embed(exact, ids) * embed(tmp_path / "model_int8.onnx", ids)).sum(axis=1)

    assert cosine.min() > 0.99
    assert cosine.min() < 1 - 1e-7  # or nothing was quantised
    assert (tmp_path / "model_int8.onnx").stat().st_size < 0.4 * exact.stat().st_size
    assert "MatMulInteger" in {node.op_type for node in onnx.load(tmp_path / "model_int8.onnx").graph.node}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "model_int8.onnx"]


def test_a_graph_without_matrix_products_is_refused(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info("value", onnx.TensorProto.FLOAT, [1])
    result = onnx.helper.make_tensor_value_info("result", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["value"], ["result"])], "plain", [value], [result])
    opset = onnx.helper.make_opsetid("", 20)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), tmp_path / "model.onnx")

    with pytest.raises(ValueError, match="int8 is for transformers: serve this encoder as fp32"):
        quantise_graph(tmp_path / "model.onnx", tmp_path / "model_int8.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]

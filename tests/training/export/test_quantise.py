from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]  # has no stubs
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from models.config import Pooling, TextArchitecture, TextEncoderConfig
from models.text.build import build_text_encoder
from models.text.served import ServedTextEncoder
from training.export.graph import export_text_graph
from training.export.quantise import calibrate_graph, quantise_graph

if TYPE_CHECKING:
    from tests.training.export.conftest import Exported


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


TRANSFORMER = TextEncoderConfig(
    architecture=TextArchitecture.TRANSFORMER,
    vocab_size=500,
    width=64,
    heads=4,
    layers=2,
    max_tokens=32,
    pooling=Pooling.MEAN,
)


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("exact"), TRANSFORMER)


def draw(seed: int, count: int = 8, *, length: int = 32) -> NDArray[np.int64]:
    ids: NDArray[np.int64] = np.random.default_rng(seed).integers(1, 500, (count, length))
    return ids


def feeds(ids: NDArray[np.int64]) -> list[dict[str, NDArray[np.int64]]]:
    return [{"input_ids": row[None], "attention_mask": np.ones_like(row[None])} for row in ids]


def activation_scales(path: Path) -> dict[str, float]:
    graph = onnx.load(path).graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return {node.input[0]: float(values[node.input[1]]) for node in graph.node if node.op_type == "QuantizeLinear"}


def test_int8_vectors_stay_near_the_fp32_ones_in_a_quarter_of_the_space(tmp_path: Path, exact: Path) -> None:
    quantise_graph(exact, tmp_path / "model_int8.onnx")
    ids = draw(0)
    cosine = (embed(exact, ids) * embed(tmp_path / "model_int8.onnx", ids)).sum(axis=1)

    assert cosine.min() > 0.99
    assert cosine.min() < 1 - 1e-7  # or nothing was quantised
    assert (tmp_path / "model_int8.onnx").stat().st_size < 0.4 * exact.stat().st_size
    assert "MatMulInteger" in {node.op_type for node in onnx.load(tmp_path / "model_int8.onnx").graph.node}
    assert [file.name for file in tmp_path.iterdir()] == ["model_int8.onnx"]


def test_a_graph_without_matrix_products_is_refused(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info("value", onnx.TensorProto.FLOAT, [1])
    result = onnx.helper.make_tensor_value_info("result", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["value"], ["result"])], "plain", [value], [result])
    opset = onnx.helper.make_opsetid("", 20)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), tmp_path / "model.onnx")

    with pytest.raises(ValueError, match="no matrix product with constant weights; dynamic int8 is for transformers"):
        quantise_graph(tmp_path / "model.onnx", tmp_path / "model_int8.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_static_int8_gives_a_vector_whatever_is_beside_it(tmp_path: Path, exact: Path) -> None:
    calibrate_graph(exact, tmp_path / "static.onnx", feeds(draw(1)))
    quantise_graph(exact, tmp_path / "dynamic.onnx")
    ids = draw(0)
    alone, beside = (
        {name: embed(tmp_path / f"{name}.onnx", rows)[0] for name in ("static", "dynamic")} for rows in (ids[:1], ids)
    )

    assert np.abs(alone["static"] - beside["static"]).max() < 1e-6
    assert np.abs(alone["dynamic"] - beside["dynamic"]).max() > 1e-5
    cosine = (embed(exact, ids) * embed(tmp_path / "static.onnx", ids)).sum(axis=1)
    assert 0.98 < cosine.min() < 1 - 1e-7
    assert (tmp_path / "static.onnx").stat().st_size < 0.4 * exact.stat().st_size
    assert sorted(file.name for file in tmp_path.iterdir()) == ["dynamic.onnx", "static.onnx"]


def test_the_scales_are_those_of_the_calibration_inputs(tmp_path: Path, exact: Path) -> None:
    for name, seeds in (("one", [1]), ("other", [2]), ("both", [1, 2])):
        batches = [feed for seed in seeds for feed in feeds(draw(seed))]
        calibrate_graph(exact, tmp_path / name, batches)
    one, other, both = (activation_scales(tmp_path / name) for name in ("one", "other", "both"))

    assert one.keys() == other.keys() == both.keys()
    moved = {tensor for tensor in one if one[tensor] != other[tensor]}
    # Only the three embedding tables are what they are; attention's products have no weights and stay fp32.
    assert len(one) - len(moved) == 3
    assert all("embedding" in tensor for tensor in one.keys() - moved)
    assert not any("softmax" in tensor or "transpose" in tensor for tensor in moved)
    # The mean of each input's range: what both give is the mean of what each gives.
    assert [both[tensor] for tensor in one] == pytest.approx([(one[tensor] + other[tensor]) / 2 for tensor in one])


def test_equal_calibration_gives_equal_bytes(tmp_path: Path, exact: Path) -> None:
    for name in ("a", "b"):
        calibrate_graph(exact, tmp_path / name, feeds(draw(1, 2)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_static_int8_takes_convolutions(tmp_path: Path, picture: Exported) -> None:
    source = picture.path / "onnx" / "model.onnx"
    pixels = np.random.default_rng(0).normal(size=(12, 1, 3, 16, 16)).astype(np.float32)
    calibrate_graph(source, tmp_path / "int8.onnx", [{"pixel_values": image} for image in pixels])
    exact, int8 = (
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
            None, {"pixel_values": pixels[:4, 0]}
        )[0]
        for path in (source, tmp_path / "int8.onnx")
    )

    assert 0.99 < (exact * int8).sum(axis=1).min() < 1 - 1e-7
    assert (tmp_path / "int8.onnx").stat().st_size < 0.4 * source.stat().st_size
    with pytest.raises(ValueError, match="static int8 also for convolutional networks"):
        quantise_graph(source, tmp_path / "dynamic.onnx")


def test_static_int8_of_a_graph_without_weights_is_refused(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info("value", onnx.TensorProto.FLOAT, [1])
    result = onnx.helper.make_tensor_value_info("result", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["value"], ["result"])], "plain", [value], [result])
    opset = onnx.helper.make_opsetid("", 20)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), tmp_path / "model.onnx")

    with pytest.raises(ValueError, match="no matrix product or convolution with constant weights"):
        calibrate_graph(tmp_path / "model.onnx", tmp_path / "int8.onnx", [])
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]

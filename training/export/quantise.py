"""Makes the int8 form of a graph: weights stored as int8, activations quantised as they come."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic  # type: ignore[import-untyped]  # has no stubs

from training.publish import sync_path

__all__ = ["quantise_graph"]

_OPERATORS = ["MatMul", "Gemm", "Gather"]
"""What is quantised: matrix products and the embedding table."""

_CONTRACTION = 2
"""A feed-forward layer's second product narrows by 4 as a rule; attention's products do not narrow."""


def quantise_graph(source: Path, destination: Path) -> None:
    """Writes the dynamic int8 form of a graph: int8 weights with one scale a column, uint8 activations.

    Left in fp32 are the feed-forward layers' second products in the first half of the blocks: what they read, behind
    GELU, has the largest outliers (ADR 0007). The activations' scale is taken from the whole tensor, so a text's vector
    changes a little with its neighbours in the batch; whoever exports measures by how much.

    Args:
        source: An fp32 graph of `export_text_graph`, or of `export_image_graph` for a ViT.
        destination: The file to write; replaced in one step. Inputs and outputs are the source's.

    Raises:
        ValueError: The graph has no matrix product with constant weights, as a GRU or a convolutional network, and
            would not be faster.
    """
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as folder, _quiet():
        quantised = Path(folder) / "model.onnx"
        quantize_dynamic(
            str(source),
            str(quantised),
            op_types_to_quantize=_OPERATORS,
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_find_sensitive(onnx.load(source)),
        )
        if not any(node.op_type == "MatMulInteger" for node in onnx.load(quantised).graph.node):
            raise ValueError(
                f"{source} has no matrix product with constant weights to quantise; int8 is for transformers: "
                "serve this encoder as fp32"
            )
        sync_path(quantised)
        quantised.replace(destination)


def _find_sensitive(graph: onnx.ModelProto) -> list[str]:
    """Returns the names of the contracting products (inputs at least twice the outputs) of the first blocks."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.graph.initializer}
    contracting = [
        node.name
        for node in graph.graph.node
        if node.op_type == "MatMul"
        and len(shape := shapes.get(node.input[1], ())) == 2
        and shape[0] >= _CONTRACTION * shape[1]
    ]
    return contracting[: (len(contracting) + 1) // 2]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps ONNX Runtime's advice to preprocess the graph off the screen."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)

"""Makes the int8 form of a text graph: weights stored as int8, activations quantised as they come."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic  # type: ignore[import-untyped]  # has no stubs

__all__ = ["quantise_graph"]

_OPERATORS = ["MatMul", "Gemm", "Gather"]
"""What is quantised: matrix products and the embedding table."""


def quantise_graph(source: Path, destination: Path) -> None:
    """Writes the dynamic int8 form of a graph: int8 weights with one scale a column, uint8 activations.

    The activations' scale is taken from the whole tensor, so a text's vector changes a little with its neighbours in
    the batch; whoever exports measures by how much.

    Args:
        source: An fp32 graph of `export_text_graph`.
        destination: The file to write; replaced in one step. Inputs and outputs are the source's.

    Raises:
        ValueError: The graph has no matrix product with constant weights, as a GRU or a convolutional network, and
            would not be faster.
    """
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as folder, _quiet():
        quantised = Path(folder) / "model.onnx"
        quantize_dynamic(
            str(source), str(quantised), op_types_to_quantize=_OPERATORS, per_channel=True, weight_type=QuantType.QInt8
        )
        if not any(node.op_type == "MatMulInteger" for node in onnx.load(quantised).graph.node):
            raise ValueError(
                f"{source} has no matrix product with constant weights to quantise; int8 is for transformers: "
                "serve this encoder as fp32"
            )
        quantised.replace(destination)


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

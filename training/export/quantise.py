"""Makes the int8 form of a graph: weights stored as int8, activations quantised as they come or as calibrated."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (  # type: ignore[import-untyped]  # has no stubs
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from training.publish import sync_path

__all__ = ["calibrate_graph", "quantise_graph"]

_PRODUCTS = ["MatMul", "Gemm"]
_TRANSFORMER = [*_PRODUCTS, "Gather"]
"""What is quantised of a transformer: matrix products and the embedding table."""
_CONVOLUTIONAL = [*_PRODUCTS, "Conv", "Add", "Clip", "Relu", "MaxPool"]
"""What is quantised of a convolutional network: everything between two convolutions, so that it stays int8."""

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
    graph = onnx.load(source).graph
    if not _find_weighted(graph, _PRODUCTS):
        raise ValueError(
            "the graph has no matrix product with constant weights; dynamic int8 is for transformers, static int8 also "
            "for convolutional networks"
        )
    with _publishing(destination) as quantised:
        quantize_dynamic(
            str(source),
            str(quantised),
            op_types_to_quantize=_TRANSFORMER,
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_find_sensitive(graph),
        )


def calibrate_graph(source: Path, destination: Path, inputs: Iterable[Mapping[str, NDArray[Any]]]) -> None:
    """Writes the static int8 form of a graph: int8 weights with one scale a column, uint8 activations of fixed scale.

    Nothing of a vector depends on its neighbours in the batch. Of a transformer the same products are quantised as by
    `quantise_graph`, their results left in fp32, and the scales span the mean of each input's smallest and largest
    value; of a convolutional network everything up to the pooling, over all values that were seen (ADR 0012).

    Args:
        source: An fp32 graph of `export_text_graph` or `export_image_graph`.
        destination: The file to write; replaced in one step. Inputs and outputs are the source's.
        inputs: At least one batch, by the names of the graph's inputs, like those in service; run through the graph.

    Raises:
        ValueError: The graph has no matrix product or convolution with constant weights, as a GRU.
    """
    graph = onnx.load(source).graph
    convolutional = len(_find_weighted(graph, ["Conv"])) > len(_find_weighted(graph, _PRODUCTS))
    if not _find_weighted(graph, [*_PRODUCTS, "Conv"]):
        raise ValueError("the graph has no matrix product or convolution with constant weights")
    # A product whose result stays fp32 is one kernel all the same; one whose result is quantised loses recall.
    kept = {"OpTypesToExcludeOutputQuantization": _PRODUCTS, "CalibMovingAverage": True}
    unweighted = {node.name for node in graph.node if node.op_type in _PRODUCTS} - set(_find_weighted(graph, _PRODUCTS))
    with _publishing(destination) as quantised:
        quantize_static(
            str(source),
            str(quantised),
            _Reader(inputs),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_CONVOLUTIONAL if convolutional else _TRANSFORMER,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[*_find_sensitive(graph), *sorted(unweighted)],
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={} if convolutional else kept,
        )


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # its base has no types
    """Hands batches out one by one, as ONNX Runtime asks for them."""

    def __init__(self, inputs: Iterable[Mapping[str, NDArray[Any]]]) -> None:
        self._inputs = iter(inputs)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Returns the next batch; None after the last."""
        batch = next(self._inputs, None)
        return None if batch is None else dict(batch)


def _find_weighted(graph: onnx.GraphProto, kinds: Iterable[str]) -> list[str]:
    """Returns the names of the nodes of some kinds whose second input is a constant."""
    constants = {tensor.name for tensor in graph.initializer}
    wanted = set(kinds)
    return [node.name for node in graph.node if node.op_type in wanted and node.input[1] in constants]


def _find_sensitive(graph: onnx.GraphProto) -> list[str]:
    """Returns the names of the contracting products (inputs at least twice the outputs) of the first blocks."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    contracting = [
        node.name
        for node in graph.node
        if node.op_type == "MatMul"
        and len(shape := shapes.get(node.input[1], ())) == 2
        and shape[0] >= _CONTRACTION * shape[1]
    ]
    return contracting[: (len(contracting) + 1) // 2]


@contextmanager
def _publishing(destination: Path) -> Iterator[Path]:
    """Lends a place beside the destination and moves what was written there to it; other files go with the place."""
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as folder, _quiet():
        written = Path(folder) / "model.onnx"
        yield written
        sync_path(written)
        written.replace(destination)


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

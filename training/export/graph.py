"""Turns a served encoder into an ONNX graph that takes any batch size and any length."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim
from transformers import PreTrainedModel

from training.publish import publish_file

__all__ = ["OPSET", "export_image_graph", "export_text_graph"]

OPSET = 20
"""Version of the ONNX operators. Chosen by measurement, with the exporter and the form of attention: ADR 0007."""

_EXAMPLE_BATCH = 3
_EXAMPLE_TOKENS = 7
"""Sizes traced with: unlike each other and unlike 1, which would be taken for a constant."""

_LIMIT_BYTES = 2**31 - 1
"""A protobuf message, and so one ONNX file, holds no more."""


def export_text_graph(served: nn.Module, path: Path, *, max_tokens: int = 512) -> None:
    """Writes the graph of a served sentence encoder.

    Inputs `input_ids` and `attention_mask`, both `[batch, tokens]` int64; outputs `last_hidden_state`
    `[batch, tokens, width]` and `sentence_embedding` `[batch, width]`, float32: the names by which
    sentence-transformers opens it. Pooling and normalisation are inside.

    Args:
        served: A `ServedTextEncoder`, or a module of your own with its `forward`; left as it was, but for its device
            (CPU) and mode (evaluation).
        path: The file to write; replaced in one step.
        max_tokens: Longest text that the encoder takes.

    Raises:
        ValueError: The weights do not fit one ONNX file.
    """
    shape = (_EXAMPLE_BATCH, min(_EXAMPLE_TOKENS, max_tokens))
    dimensions = {0: Dim("batch"), 1: Dim("tokens")}
    _export(
        served,
        (torch.zeros(shape, dtype=torch.int64), torch.ones(shape, dtype=torch.int64)),
        path,
        inputs={"input_ids": dimensions, "attention_mask": dimensions},
        outputs=("last_hidden_state", "sentence_embedding"),
    )


def export_image_graph(served: nn.Module, path: Path, *, image_size_px: int) -> None:
    """Writes the graph of a served image encoder.

    Input `pixel_values` `[batch, 3, image_size_px, image_size_px]` float32, normalised; output `image_embedding`
    `[batch, width]` float32, unit rows.

    Args:
        served: A `ServedImageEncoder`, or a module of your own with its `forward`; left as it was, but for its device
            (CPU) and mode (evaluation).
        path: The file to write; replaced in one step.
        image_size_px: Side of the square image.

    Raises:
        ValueError: The weights do not fit one ONNX file.
    """
    _export(
        served,
        (torch.zeros(_EXAMPLE_BATCH, 3, image_size_px, image_size_px),),
        path,
        inputs={"pixel_values": {0: Dim("batch")}},
        outputs=("image_embedding",),
    )


def _export(
    served: nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    *,
    inputs: Mapping[str, Mapping[int, Any]],
    outputs: Sequence[str],
) -> None:
    size_bytes = sum(tensor.nbytes for tensor in served.state_dict().values())
    if size_bytes > _LIMIT_BYTES:
        raise ValueError(
            f"the encoder's weights ({size_bytes:,} bytes) do not fit one ONNX file ({_LIMIT_BYTES:,} bytes)"
        )
    served.cpu().eval()
    # The exporter warns of its own internals; whether the graph is right is measured afterwards, on values.
    with _plain_attention(served), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            served,
            example,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple(dict(dimensions) for dimensions in inputs.values()),
        )
    if program is None:
        raise AssertionError("the exporter returns the program where it is given no file")
    graph = program.model_proto
    _strip(graph)
    path.parent.mkdir(parents=True, exist_ok=True)
    publish_file(path, lambda partial: partial.write_bytes(graph.SerializeToString(deterministic=True)))


@contextmanager
def _plain_attention(served: nn.Module) -> Iterator[None]:
    """Writes attention as matrix products and a softmax, without the fused kernel's handling of masks."""
    backbones = [module for module in served.modules() if isinstance(module, PreTrainedModel)]
    before = [module.config._attn_implementation for module in backbones]
    for module in backbones:
        module.set_attn_implementation("eager")
    try:
        yield
    finally:
        for module, implementation in zip(backbones, before, strict=True):
            module.set_attn_implementation(implementation)


def _strip(graph: onnx.ModelProto) -> None:
    """Removes the source lines the exporter leaves in every node: paths of this machine, unlike on any other."""
    for node in graph.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*graph.graph.value_info, *graph.graph.input, *graph.graph.output):
        del value.metadata_props[:]
    for tensor in graph.graph.initializer:
        del tensor.metadata_props[:]
    for function in graph.functions:
        del function.metadata_props[:]
    del graph.graph.metadata_props[:]
    del graph.metadata_props[:]

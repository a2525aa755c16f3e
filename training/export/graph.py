"""Turns a served encoder into an ONNX graph that takes any batch size and any length."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from models.image.served import ServedImageEncoder
from models.text.served import ServedTextEncoder

__all__ = ["OPSET", "export_image_graph", "export_text_graph"]

OPSET = 20
"""Version of the ONNX operators: attention in basic operators, which ONNX Runtime fuses (docs/adr/0007)."""

_EXAMPLE_BATCH = 3
_EXAMPLE_TOKENS = 7
"""Unlike each other, unlike 0 and 1, which the tracer would take for constants."""

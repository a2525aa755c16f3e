"""EfficientNet-Lite0 written out from its description, over the keys of the package that ships it."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["compute_features", "make_state"]

_STAGES = (
    # depth, kernel, stride, expansion, inputs, outputs
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


def _blocks() -> Iterator[tuple[str, int, int, int, int, int]]:
    number = 0
    for depth, kernel, stride, expansion, inputs, outputs in _STAGES:
        for place in range(depth):
            before = inputs if place == 0 else outputs
            yield f"_blocks.{number}.", kernel, stride if place == 0 else 1, expansion, before, outputs
            number += 1


def make_state() -> dict[str, Tensor]:
    """Draws weights and statistics by the package's names, classifier included."""
    state: dict[str, Tensor] = {}

    def convolution(name: str, outputs: int, inputs: int, kernel: int) -> None:
        state[f"{name}.weight"] = torch.randn(outputs, inputs, kernel, kernel) * (2 / (inputs * kernel**2)) ** 0.5

    def norm(name: str, width: int) -> None:
        state[f"{name}.weight"] = torch.rand(width) + 0.5
        state[f"{name}.bias"] = torch.randn(width)
        state[f"{name}.running_mean"] = torch.randn(width) * 0.1
        state[f"{name}.running_var"] = torch.rand(width) + 0.5
        state[f"{name}.num_batches_tracked"] = torch.tensor(1)

    convolution("_conv_stem", 32, 3, 3)
    norm("_bn0", 32)
    for prefix, kernel, _, expansion, inputs, outputs in _blocks():
        middle = inputs * expansion
        if expansion > 1:
            convolution(f"{prefix}_expand_conv", middle, inputs, 1)
            norm(f"{prefix}_bn0", middle)
        convolution(f"{prefix}_depthwise_conv", middle, 1, kernel)
        norm(f"{prefix}_bn1", middle)
        convolution(f"{prefix}_project_conv", outputs, middle, 1)
        norm(f"{prefix}_bn2", outputs)
    convolution("_conv_head", 1280, 320, 1)
    norm("_bn1", 1280)
    return state | {"_fc.weight": torch.randn(10, 1280), "_fc.bias": torch.randn(10)}


def _convolve(
    state: dict[str, Tensor], name: str, values: Tensor, stride: int = 1, *, depthwise: bool = False
) -> Tensor:
    """Convolves with TensorFlow's SAME padding: what is odd goes to the right and the bottom."""
    weight = state[f"{name}.weight"]
    kernel, side = weight.shape[2], values.shape[2]
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    before, after = total // 2, total - total // 2
    padded = F.pad(values, (before, after, before, after))
    return F.conv2d(padded, weight, stride=stride, groups=len(weight) if depthwise else 1)


def _normalise(state: dict[str, Tensor], name: str, values: Tensor) -> Tensor:
    mean, variance, weight, bias = (
        state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (values - mean) / (variance + 1e-3).sqrt() * weight + bias


def compute_features(state: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """Computes the 1280 features of `[n, 3, s, s]` pixels."""
    values = _normalise(state, "_bn0", _convolve(state, "_conv_stem", pixels, 2)).clamp(0, 6)
    for prefix, _, stride, expansion, inputs, outputs in _blocks():
        branch = values
        if expansion > 1:
            branch = _normalise(state, f"{prefix}_bn0", _convolve(state, f"{prefix}_expand_conv", branch)).clamp(0, 6)
        branch = _convolve(state, f"{prefix}_depthwise_conv", branch, stride, depthwise=True)
        branch = _normalise(state, f"{prefix}_bn1", branch).clamp(0, 6)
        branch = _normalise(state, f"{prefix}_bn2", _convolve(state, f"{prefix}_project_conv", branch))
        values = branch + values if stride == 1 and inputs == outputs else branch
    return _normalise(state, "_bn1", _convolve(state, "_conv_head", values)).clamp(0, 6).mean(dim=(2, 3))

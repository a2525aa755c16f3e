"""Heads: what stands between the representation `h` and the projection `z` that a loss compares.

Every head is a row of blocks; a method's file says which, and what fixes its numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

__all__ = ["Block", "ProjectionHead", "mlp"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One linear layer with what follows it."""

    inputs: int
    """Width it takes."""
    outputs: int
    """Width it gives."""
    batch_norm: bool = True
    """Whether BatchNorm follows."""
    centre: bool = True
    """Whether that BatchNorm learns a shift."""
    scale: bool = True
    """Whether that BatchNorm learns a scale."""
    relu: bool = True
    """Whether ReLU closes the block."""
    bias: bool = True
    """Whether the linear layer has a bias."""


class ProjectionHead(nn.Module):
    """A multi-layer perceptron from a list of blocks.

    Args:
        blocks: At least one; each takes the width that the one before it gives.

    Raises:
        ValueError: There is no block, or two neighbours' widths differ.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__()
        if not blocks:
            raise ValueError("a head needs at least one block")
        for position, (before, after) in enumerate(pairwise(blocks)):
            if before.outputs != after.inputs:
                raise ValueError(
                    f"block {position} gives {before.outputs} values, but block {position + 1} takes {after.inputs}"
                )
        self.blocks = tuple(blocks)
        self.layers = nn.Sequential(*(layer for block in blocks for layer in _layers(block)))

    @property
    def width(self) -> int:
        """Width of the projection."""
        return self.blocks[-1].outputs

    def forward(self, representations: Tensor) -> Tensor:
        """Projects representations.

        Args:
            representations: `[n, inputs]` of the first block; in training n > 1 where a block has BatchNorm.

        Returns:
            `[n, width]`, not normalised.
        """
        projections: Tensor = self.layers(representations)
        return projections


def mlp(*widths: int, batch_norm: bool = True, output_bias: bool = True) -> ProjectionHead:
    """Builds the head that most papers have: Linear, BatchNorm and ReLU for each hidden layer, and Linear at the end.

    Args:
        *widths: Of the input, of each hidden layer, and of the output.
        batch_norm: Whether BatchNorm follows the hidden layers.
        output_bias: Whether the last layer has a bias.

    Returns:
        The head.

    Raises:
        ValueError: There are fewer than two widths.
    """
    if len(widths) < 2:
        raise ValueError(f"a head needs the widths of its input and its output, got {list(widths)}")
    *hidden, last = pairwise(widths)
    blocks = [Block(inputs=inputs, outputs=outputs, batch_norm=batch_norm) for inputs, outputs in hidden]
    closing = Block(inputs=last[0], outputs=last[1], batch_norm=False, relu=False, bias=output_bias)
    return ProjectionHead([*blocks, closing])


def _layers(block: Block) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Linear(block.inputs, block.outputs, bias=block.bias)]
    if block.batch_norm:
        norm = nn.BatchNorm1d(block.outputs)
        # BatchNorm1d has no switch for each of the two; a frozen zero is no shift, a frozen one no scale.
        norm.bias.requires_grad_(block.centre)
        norm.weight.requires_grad_(block.scale)
        layers.append(norm)
    if block.relu:
        layers.append(nn.ReLU(inplace=True))
    return layers

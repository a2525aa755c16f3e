"""Heads: what stands between the representation `h` and the projection `z` that a loss compares.

Every head is a row of blocks. Its docstring quotes the sentence that fixes its numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from torch import Tensor, nn

__all__ = ["Block", "MeanShiftPredictor", "MeanShiftProjector", "ProjectionHead", "SimCLRProjector"]


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


class SimCLRProjector(ProjectionHead):
    """SimCLR's head: h -> Linear-BN-ReLU -> Linear-BN.

    "We use a MLP with one hidden layer to obtain z_i = g(h_i) = W(2) sigma(W(1) h_i) where sigma is a ReLU
    non-linearity" [0]; the hidden layer is as wide as h. In the authors' code each linear layer is followed by
    BatchNorm and has no bias of its own: "for the middle layers, use bias and relu for the output", where the bias is
    the BatchNorm's centre, and "for the final layer, neither bias nor relu is used" [1].

    Args:
        inputs: Width of h.
        hidden: Width of the hidden layer; None: as wide as h.
        outputs: Width of z.

    References:
        - [0] SimCLR, 2020, section 2.1, https://arxiv.org/abs/2002.05709
        - [1] `projection_head`, https://github.com/google-research/simclr/blob/383d414/model_util.py
    """

    def __init__(self, inputs: int, *, hidden: int | None = None, outputs: int = 128) -> None:
        middle = inputs if hidden is None else hidden
        super().__init__(
            [
                Block(inputs=inputs, outputs=middle, bias=False),
                Block(inputs=middle, outputs=outputs, bias=False, centre=False, relu=False),
            ]
        )


class MeanShiftProjector(ProjectionHead):
    """MSF's projector: F -> 2F -> F/4, the 2F layer with BatchNorm and ReLU.

    The authors' code builds it as `get_mlp(feat_dim, hidden_dim, proj_dim)` with `hidden_dim = feat_dim * 2` and
    `proj_dim = feat_dim // 4`, each `get_mlp` being Linear, BatchNorm1d, ReLU, Linear [0]. ResNet-50:
    2048 -> 4096 -> 512; ResNet-18: 512 -> 1024 -> 128.

    Args:
        inputs: Width F of the representation; at least 4.
        output_norm: Whether a BatchNorm without shift closes it, as SimCLR's and SimSiam's; the authors have none.

    Raises:
        ValueError: `inputs` is below 4, so that nothing would be left of F/4.

    References:
        - [0] Mean Shift, 2021, https://arxiv.org/abs/2105.07269; https://github.com/UMBCvision/MSF/tree/130191c
    """

    def __init__(self, inputs: int, *, output_norm: bool = False) -> None:
        *blocks, last = _mean_shift_blocks(inputs, inputs)
        super().__init__([*blocks, replace(last, batch_norm=output_norm, centre=False)])


class MeanShiftPredictor(ProjectionHead):
    """MSF's predictor: F/4 -> 2F -> F/4, on the projector of the online branch only.

    In the authors' code `get_mlp(proj_dim, hidden_dim, proj_dim)` with the projector's numbers [0]. ResNet-50:
    512 -> 4096 -> 512; ResNet-18: 128 -> 1024 -> 128.

    Args:
        representation: Width F of the representation, not of the projection; at least 4.

    Raises:
        ValueError: `representation` is below 4.

    References:
        - [0] Mean Shift, 2021, https://arxiv.org/abs/2105.07269; https://github.com/UMBCvision/MSF/tree/130191c
    """

    def __init__(self, representation: int) -> None:
        super().__init__(_mean_shift_blocks(representation // 4, representation))


def _mean_shift_blocks(inputs: int, representation: int) -> list[Block]:
    if representation < 4:
        raise ValueError(f"representation width ({representation}) must be >= 4: the projection is a quarter of it")
    hidden = 2 * representation
    return [
        Block(inputs=inputs, outputs=hidden),
        Block(inputs=hidden, outputs=representation // 4, batch_norm=False, relu=False),
    ]


def _layers(block: Block) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Linear(block.inputs, block.outputs, bias=block.bias)]
    if block.batch_norm:
        norm = nn.BatchNorm1d(block.outputs)
        if not block.centre:
            # BatchNorm1d has no switch for the shift alone; a frozen zero is none.
            norm.bias.requires_grad_(False)
        layers.append(norm)
    if block.relu:
        layers.append(nn.ReLU(inplace=True))
    return layers

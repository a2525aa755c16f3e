"""Runs a sentence encoder over a block in parts of like length, so that a CPU does not compute padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.text.encoder import TextEncoder, TextOutput

__all__ = ["ByLength"]

_PARTS = 8
"""Measured on Wikipedia sentences, 400 a block: 4 parts halve the time of one; 8 gain a little more."""
_SMALLEST_PART = 16


class ByLength(nn.Module):
    """An encoder that reads a block shortest sentences first, some at a time; the block's order is kept outside.

    A text's vector does not depend on what it is padded with, so that this gives the encoder's own values. On a GPU, to
    which a row of small kernels costs more than padding, it hands the block over as it is.

    Args:
        tower: The encoder.
    """

    def __init__(self, tower: TextEncoder) -> None:
        super().__init__()
        self.tower = tower
        self.width = tower.width

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> TextOutput:
        """Encodes texts.

        Args:
            input_ids: `[n, t]` int64, padded on the right.
            attention_mask: `[n, t]` int64: 1 for tokens, 0 for padding; at least one token a row.

        Returns:
            The states, 0 where a part was shorter than the block, and the pooled vectors.
        """
        parts = min(_PARTS, len(input_ids) // _SMALLEST_PART)
        if parts < 2 or input_ids.device.type != "cpu":
            output: TextOutput = self.tower(input_ids, attention_mask)
            return output
        lengths = attention_mask.sum(dim=1)
        order = torch.argsort(lengths, stable=True)
        outputs = []
        for rows in order.chunk(parts):
            longest = int(lengths[rows[-1]])
            outputs.append(self.tower(input_ids[rows, :longest], attention_mask[rows, :longest]))
        back = torch.argsort(order)
        width = input_ids.shape[1]
        states = [nn.functional.pad(part.states, (0, 0, 0, width - part.states.shape[1])) for part in outputs]
        return TextOutput(torch.cat(states)[back], torch.cat([part.pooled for part in outputs])[back])

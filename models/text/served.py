"""A sentence encoder as it is served: one unit vector a text, whatever it was trained with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.text.encoder import TextEncoder

__all__ = ["ServedTextEncoder"]


class ServedTextEncoder(nn.Module):
    """One tower, or the two halves of untied Quick-Thoughts, as one encoder.

    Two towers: "At test time, for a given sentence s we consider its representation to be the concatenation of the
    outputs of the two encoders [f(s) g(s)]" [0]; as in the authors' code each half is L2-normalised first. Differs:
    divided by the root of 2, so that the whole has unit length and its inner product is a cosine.

    Args:
        towers: One encoder (tied), or f and g.
        normalize: Whether the vector has unit length; only one tower may go without.

    Raises:
        ValueError: There are not 1 or 2 towers, or two of them without normalising.

    References:
        - [0] Quick-Thoughts, 2018, section 3, https://arxiv.org/abs/1803.02893
    """

    def __init__(self, towers: Sequence[TextEncoder], *, normalize: bool = True) -> None:
        super().__init__()
        if len(towers) not in (1, 2):
            raise ValueError(f"a served encoder has 1 or 2 towers, not {len(towers)}")
        if len(towers) == 2 and not normalize:
            raise ValueError("two towers need normalize: the halves are made unit before they are joined")
        self.towers = nn.ModuleList(towers)
        self.normalize = normalize
        self.width = sum(tower.width for tower in towers)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes texts as they are served.

        Args:
            input_ids: `[n, t]` int64, padded on the right.
            attention_mask: `[n, t]` int64: 1 for tokens, 0 for padding.

        Returns:
            The last hidden state `[n, t, width]`, the towers' side by side, and the sentence embedding `[n, width]`,
            unit rows where `normalize`.
        """
        outputs = [tower(input_ids, attention_mask) for tower in self.towers]
        if len(outputs) == 1:
            states, pooled = outputs[0]
            return states, F.normalize(pooled, dim=1) if self.normalize else pooled
        halves = [F.normalize(output.pooled, dim=1) for output in outputs]
        return torch.cat([output.states for output in outputs], dim=2), torch.cat(halves, dim=1) / math.sqrt(2)

"""What every sentence encoder is: token ids in, token states and one vector out."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

from torch import Tensor

from models.config import TextEncoderConfig
from models.freezing import LayeredEncoder

__all__ = ["TextEncoder", "TextOutput"]


class TextOutput(NamedTuple):
    """What a sentence encoder gives."""

    states: Tensor
    """`[n, t, w]`: one state a token; undefined at padding."""
    pooled: Tensor
    """`[n, w]`: one vector a text, not normalised."""


class TextEncoder(LayeredEncoder):
    """One tower: a network from padded token ids to one vector a text.

    A text's vector does not depend on the padding, nor on what else is in its batch.

    Args:
        config: Its shape; `towers` is how many of it are trained, and does not matter here.
        width: Width of its vector.
    """

    def __init__(self, config: TextEncoderConfig, *, width: int) -> None:
        super().__init__()
        self.config = config
        self.width = width

    @abstractmethod
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> TextOutput:
        """Encodes texts.

        Args:
            input_ids: `[n, t]` int64, padded on the right.
            attention_mask: `[n, t]` int64: 1 for tokens, 0 for padding; at least one token a row.

        Returns:
            The states and the pooled vectors.
        """

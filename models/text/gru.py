"""The bidirectional GRU of Quick-Thoughts, right for padding by construction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.config import Pooling, TextEncoderConfig
from models.freezing import Layer
from models.text.encoder import TextEncoder, TextOutput
from models.text.pooling import mean_state

__all__ = ["GruTextEncoder"]


class GruTextEncoder(TextEncoder):
    """Reads a sentence in both directions; its vector is the final state of each, side by side.

    "a single layer GRU" whose "final hidden state" is the sentence's vector, "bi-QT" reading both ways [0]; in the
    authors' code 600 units a direction, concatenated to 1,200, and embeddings that start uniform in ±0.1.
    Differs: the recurrent weights start in ±0.1 too (TensorFlow's default there), biases at 0.

    The backward direction reads each text reversed within its own length, so padding is only ever read after the text
    has ended: no packed sequence is needed, and one form serves training and export.

    Args:
        config: `width` is both directions' together.

    References:
        - [0] Quick-Thoughts, 2018, https://arxiv.org/abs/1803.02893
    """

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__(config, width=config.width)
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_width)
        self.dropout = nn.Dropout(config.dropout)
        self.recurrent = nn.ModuleList(
            _Bidirectional(config.embedding_width if layer == 0 else config.width, config.width)
            for layer in range(config.layers)
        )
        self._initialize(config.init_scale)

    def _initialize(self, scale: float) -> None:
        for name, parameter in self.named_parameters():
            if "bias" in name:
                nn.init.zeros_(parameter)
            else:
                nn.init.uniform_(parameter, -scale, scale)

    def layers(self) -> Sequence[Layer]:
        """Returns the embedding and the recurrent layers."""
        names = ["embedding", *(f"recurrent.{position}" for position in range(len(self.recurrent)))]
        return [Layer(name, (name,)) for name in names]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> TextOutput:
        """Encodes texts.

        Args:
            input_ids: `[n, t]` int64, padded on the right.
            attention_mask: `[n, t]` int64: 1 for tokens, 0 for padding; at least one token a row.

        Returns:
            The states of both directions side by side, `[n, t, w]`, and the pooled vectors `[n, w]`.
        """
        states = self.embedding(input_ids)
        lengths = attention_mask.sum(dim=1)  # [n]
        final = states[:, 0]
        for layer in self.recurrent:
            states, final = layer(self.dropout(states), lengths)
        pooled = mean_state(states, attention_mask) if self.config.pooling is Pooling.MEAN else final
        return TextOutput(states, pooled)


class _Bidirectional(nn.Module):
    """One recurrent layer in both directions."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.ahead = nn.GRU(inputs, width // 2, batch_first=True)
        self.back = nn.GRU(inputs, width // 2, batch_first=True)

    def forward(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the states `[n, t, w]` and the final states `[n, w]` of inputs `[n, t, e]` and lengths `[n]`."""
        mirrored = _mirror(lengths, inputs.shape[1])  # [n, t]
        ahead, _ = self.ahead(inputs)
        reversed_states, _ = self.back(_take(inputs, mirrored))
        last = (lengths - 1).clamp(min=0).unsqueeze(1)  # [n, 1]
        final = torch.cat([_take(ahead, last), _take(reversed_states, last)], dim=2).squeeze(1)
        return torch.cat([ahead, _take(reversed_states, mirrored)], dim=2), final


def _mirror(lengths: Tensor, count: int) -> Tensor:
    """Returns `[n, count]` positions that read each row from its last token to its first, then stay at the first."""
    positions = torch.arange(count, device=lengths.device)
    return (lengths.unsqueeze(1) - 1 - positions).clamp(min=0)


def _take(rows: Tensor, positions: Tensor) -> Tensor:
    """Returns `[n, m, w]`: of rows `[n, t, w]` those at positions `[n, m]`."""
    return rows.gather(1, positions.unsqueeze(2).expand(-1, -1, rows.shape[2]))

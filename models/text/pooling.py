"""How the states of a text's tokens become one vector: pure functions of states and mask."""

from __future__ import annotations

import torch
from torch import Tensor

from models.config import Pooling

__all__ = ["first_state", "last_state", "mean_state", "pool"]


def mean_state(states: Tensor, attention_mask: Tensor) -> Tensor:
    """Averages the states of the tokens that are not padding.

    Args:
        states: `[n, t, w]`.
        attention_mask: `[n, t]`: 1 for tokens, 0 for padding.

    Returns:
        `[n, w]`; zero where a row has no token.
    """
    weights = attention_mask.to(states.dtype).unsqueeze(-1)  # [n, t, 1]
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def first_state(states: Tensor) -> Tensor:
    """Takes the first token's state: BERT's [CLS].

    Args:
        states: `[n, t, w]`, texts padded on the right.

    Returns:
        `[n, w]`.
    """
    return states[:, 0]


def last_state(states: Tensor, attention_mask: Tensor) -> Tensor:
    """Takes the state of each row's last token that is not padding.

    Args:
        states: `[n, t, w]`.
        attention_mask: `[n, t]`: 1 for tokens, 0 for padding, on whichever side.

    Returns:
        `[n, w]`; the first position's state where a row has no token.
    """
    positions = torch.arange(states.shape[1], device=states.device)
    last = (attention_mask * positions).max(dim=1).values  # [n]
    index = last.view(-1, 1, 1).expand(-1, 1, states.shape[2])
    return states.gather(1, index).squeeze(1)


def pool(states: Tensor, attention_mask: Tensor, pooling: Pooling) -> Tensor:
    """Pools a transformer's states in the way that is named.

    Args:
        states: `[n, t, w]`.
        attention_mask: `[n, t]`: 1 for tokens, 0 for padding.
        pooling: Which of the three.

    Returns:
        `[n, w]`, not normalised.
    """
    if pooling is Pooling.MEAN:
        return mean_state(states, attention_mask)
    if pooling is Pooling.CLS:
        return first_state(states)
    return last_state(states, attention_mask)

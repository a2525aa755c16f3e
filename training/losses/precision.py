"""fp32 inside a loss, whatever the encoder's precision."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["full_precision", "unit_rows"]


def full_precision(tensor: Tensor) -> torch.autocast:
    """Returns a context in which autocast leaves fp32 products in fp32.

    `exp(s / T)` overflows fp16 where T < 0.09, and a mask of -1e9 is -inf there; a loss therefore converts its inputs
    and computes inside this context.

    Args:
        tensor: Any operand; its device's autocast is turned off.

    Returns:
        The context.
    """
    return torch.autocast(tensor.device.type, enabled=False)


def unit_rows(rows: Tensor) -> Tensor:
    """Returns the rows at unit length, in fp32.

    Args:
        rows: `[n, d]`, any floating type; converted first, because the guard against zero rows underflows in fp16.

    Returns:
        `[n, d]` fp32; a zero row stays zero.
    """
    return F.normalize(rows.float(), dim=1)

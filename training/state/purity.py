"""How often an image's neighbours in a bank share its label: a diagnostic, apart from any loss."""

from __future__ import annotations

import torch
from torch import Tensor

from training.losses.neighbours import nearest_neighbours
from training.state.ring_bank import RingBank

__all__ = ["neighbour_purity"]


@torch.no_grad()
def neighbour_purity(bank: RingBank, labels: Tensor, *, neighbour_count: int, query_count: int = 1024) -> float:
    """Measures the purity of a bank's neighbourhoods with labels that training never sees.

    Args:
        bank: The bank after some steps.
        labels: `[dataset_size]` int64, of all training images; -1 where there is none.
        neighbour_count: Neighbours per query, the query's own row not counted, at least 1.
        query_count: Rows taken as queries, from the first on.

    Returns:
        Fraction in [0, 1] of labelled neighbours with their query's label; NaN where nothing is labelled.

    Raises:
        ValueError: The bank holds fewer than `neighbour_count + 1` rows.
    """
    if bank.filled <= neighbour_count:
        raise ValueError(f"the bank holds {bank.filled} rows; {neighbour_count} neighbours need one more than that")
    queries = torch.arange(min(query_count, bank.filled), device=bank.vectors.device)
    others = torch.arange(bank.filled, device=bank.vectors.device)[None, :] != queries[:, None]
    found = nearest_neighbours(bank.valid[queries], bank.valid, count=neighbour_count, allowed=others)
    bank_labels = labels.to(bank.vectors.device)[bank.valid_index]
    known = (bank_labels[queries] >= 0)[:, None] & (bank_labels[found.slots] >= 0)
    same = known & (bank_labels[found.slots] == bank_labels[queries][:, None])
    return float(same.sum() / known.sum()) if bool(known.any()) else float("nan")

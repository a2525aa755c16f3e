"""A view of the index without some of its records."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from serving.collections.index.rows import Rows
from serving.collections.index.view import IndexView

__all__ = ["without"]


def without(view: IndexView, keys: NDArray[np.int64]) -> IndexView:
    """Returns a view in which records are missing.

    Args:
        view: Any view.
        keys: `[n]`, ascending; keys that it does not hold are no error.

    Returns:
        A view that shares its arrays; the same for what holds none of them.
    """
    base = view.base if view.base is None else _rows_without(view.base, keys)
    tail = tuple(_rows_without(rows, keys) for rows in view.tail)
    bits = view.base_bits
    if base is not None and base.alive is not None and base is not view.base:
        bits = np.packbits(base.alive, bitorder="little")
    return replace(
        view,
        base=base,
        base_bits=bits,
        base_alive_count=0 if base is None else base.alive_count,
        tail=tail,
        tail_alive_count=sum(rows.alive_count for rows in tail),
    )


def _rows_without(rows: Rows, keys: NDArray[np.int64]) -> Rows:
    if not len(rows):
        return rows
    inside = keys[np.searchsorted(keys, rows.keys[0]) : np.searchsorted(keys, rows.keys[-1], side="right")]
    places = np.searchsorted(rows.keys, inside)
    places = places[rows.keys[places] == inside]
    if not len(places):
        return rows
    alive = np.ones(len(rows), dtype=np.bool_) if rows.alive is None else rows.alive.copy()
    alive[places] = False
    return replace(rows, alive=alive)

"""Pages of the records for which a filter holds, in the bytewise order of their ids."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.collections.filters.conditions import Condition
from serving.collections.filters.holds import holds
from serving.collections.index.view import IndexView
from serving.collections.record_reader import RecordReader
from serving.collections.types import Record

__all__ = ["Page", "page_matching"]

_ATTEMPTS = 3
_SORTED_RECORDS = 20_000
"""Matches up to which their ids are sorted for each page; with more, the ids of all records are walked in order."""
_WALKED_IDS = 4_096


@dataclass(frozen=True, slots=True)
class Page:
    """Some records of a list."""

    records: list[Record]
    next_after_id: str
    """Where the next page begins; empty on the last."""


def page_matching(
    current_view: Callable[[], IndexView], reader: RecordReader, where: Condition, *, after_id: bytes, size: int
) -> Page:
    """Returns the matching records that follow an id.

    A record may be written between the look at the columns and the read. Then both are repeated; under a storm of
    writes such records are left out: no page ever holds a record that does not match.

    Args:
        current_view: Returns the index as it is.
        reader: Reads the record.
        where: The filter.
        after_id: Encoded; empty: from the beginning.
        size: Most records to return.

    Returns:
        The page.
    """
    for _ in range(_ATTEMPTS):
        found = _page(current_view().matching(where), reader, after_id, size)
        stored = reader.by_keys([key for _, key in found])
        records = [stored[key] for _, key in found if key in stored and holds(where, stored[key].metadata)]
        if len(records) == len(found):
            break
    return Page(records, found[-1][0].decode("utf-8") if len(found) == size else "")


def _page(view: IndexView, reader: RecordReader, after_id: bytes, size: int) -> list[tuple[bytes, int]]:
    if view.living_count > _SORTED_RECORDS:
        return _walked_page(view.living_keys(), reader, after_id, size)
    return _sorted_page(view, after_id, size)


def _sorted_page(view: IndexView, after_id: bytes, size: int) -> list[tuple[bytes, int]]:
    pairs = zip((name.encode("utf-8") for name in view.living_ids()), view.living_keys().tolist(), strict=True)
    return heapq.nsmallest(size, (pair for pair in pairs if pair[0] > after_id))


def _walked_page(keys: NDArray[np.int64], reader: RecordReader, after_id: bytes, size: int) -> list[tuple[bytes, int]]:
    found: list[tuple[bytes, int]] = []
    with reader.snapshot() as connection:
        while len(found) < size and (walked := reader.ids_after(connection, after_id, _WALKED_IDS)):
            matching = np.isin([key for _, key in walked], keys, assume_unique=True)
            found += [walked[number] for number in np.flatnonzero(matching).tolist()]
            after_id = walked[-1][0]
    return found[:size]

"""What a search may ask for; and from found keys to hits, with their records where asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from serving.collections.config import MAX_K
from serving.collections.filters.conditions import Condition
from serving.collections.filters.holds import holds
from serving.collections.index.view import Found, IndexView
from serving.collections.record_reader import RecordReader
from serving.collections.types import Hits, Record
from serving.errors import InputTooLarge, InvalidInput, VersionMismatch

__all__ = ["check_k", "check_sequence", "hits_with_records", "hits_without_records"]

_ATTEMPTS = 3


def check_k(k: int, score_threshold: float | None) -> None:
    """Refuses a search for no or too many neighbours.

    Args:
        k: Neighbours a query, in [1, `MAX_K`].
        score_threshold: Least score, or none.

    Raises:
        InvalidInput: k is below 1, or the threshold is NaN.
        InputTooLarge: k is above `MAX_K`.
    """
    if k < 1:
        raise InvalidInput(f"k ({k}) must be at least 1", k=k)
    if k > MAX_K:
        raise InputTooLarge(f"k ({k}) must be at most {MAX_K}", k=k, limit=MAX_K)
    if score_threshold is not None and np.isnan(score_threshold):
        raise InvalidInput("score_threshold is NaN; leave it out to get all scores")


def check_sequence(min_sequence: int, reached: int) -> None:
    """Refuses to read what was never written; every sequence that a write returned has been reached.

    Args:
        min_sequence: What the caller wants to see.
        reached: The collection's sequence.

    Raises:
        VersionMismatch: `min_sequence` lies in the future.
    """
    if min_sequence > reached:
        raise VersionMismatch(
            f"min_sequence ({min_sequence}) has not been written: the collection is at {reached}; "
            "pass a sequence that a write returned",
            min_sequence=min_sequence,
            sequence=reached,
        )


def hits_without_records(found: Sequence[Found]) -> list[Hits]:
    """Returns hits as the index knows them.

    Args:
        found: Per query its neighbours.

    Returns:
        One entry a query.
    """
    return [Hits(ids=item.ids, scores=item.scores, versions=item.versions) for item in found]


def hits_with_records(
    current_view: Callable[[], IndexView],
    search: Callable[[IndexView], list[Found]],
    reader: RecordReader,
    where: Condition | None = None,
) -> list[Hits]:
    """Searches and reads the records found, as one.

    A record may be overwritten between the search and the read. Then both are repeated, on the newer index; under a
    storm of writes the records that keep vanishing are left out: no hit ever carries another vector's record, nor one
    that does not match the filter.

    Args:
        current_view: Returns the index as it is.
        search: Searches a view.
        reader: Reads the record.
        where: The filter that the search applies; `None`: none.

    Returns:
        One entry a query; versions are those of the records in it.
    """
    for attempt in range(_ATTEMPTS):
        found = search(current_view())
        keys: NDArray[np.int64] = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *(f.keys for f in found)]))
        stored = reader.by_keys(keys.tolist())
        records = {key: one for key, one in stored.items() if where is None or holds(where, one.metadata)}
        if len(records) == len(keys) or attempt == _ATTEMPTS - 1:
            break
    return [_join(item, records) for item in found]


def _join(found: Found, records: dict[int, Record]) -> Hits:
    present = [row for row, key in enumerate(found.keys.tolist()) if key in records]
    chosen = [records[int(found.keys[row])] for row in present]
    return Hits(
        ids=[record.id for record in chosen],
        scores=found.scores[present],
        versions=np.array([record.version for record in chosen], dtype=np.int64),
        records=chosen,
    )

"""Exact search: every row is scored; nothing closer is missed, ties included."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from serving.collections.index.rows import Rows
from serving.collections.index.scoring import approximate_scores, rounding_error
from serving.collections.types import Metric

__all__ = ["scan_candidates"]

_BLOCK_ROWS = 8_192
_SPARSE_SHARE = 0.5
"""Share of living rows below which copying them together costs less than scoring the dead ones too."""


class _Shortlist:
    """Per query the rows that may still be among its k best, as parallel arrays that grow block by block."""

    def __init__(self, query_count: int, k: int) -> None:
        self._k = k
        self._floor = np.full(query_count, -np.inf)
        self._error = np.zeros(query_count)
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []

    def add(self, scores: NDArray[np.float32], error: NDArray[np.float64], numbers: NDArray[np.int64]) -> None:
        """Takes the scores `[m, n]` of rows with these numbers `[n]`, ascending from call to call."""
        row_count = scores.shape[1]
        if row_count > self._k:
            kth = np.partition(scores, row_count - self._k, axis=1)[:, row_count - self._k]
            self._floor = np.maximum(self._floor, kth - error)
        self._error = np.maximum(self._error, error)
        # Both sides of the comparison are rounded: the kth score and the row's own.
        queries, rows = np.nonzero((scores >= (self._floor - error)[:, None]) & (scores > -np.inf))
        self._parts.append((queries, numbers[rows], scores[queries, rows]))

    def of_each_query(self) -> list[NDArray[np.int64]]:
        """Returns per query its rows, ascending."""
        if not self._parts:
            return [np.empty(0, dtype=np.int64) for _ in self._floor]
        queries, rows, scores = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        order = np.argsort(queries, kind="stable")
        bounds = np.searchsorted(queries[order], np.arange(len(self._floor) + 1))
        return [
            self._trimmed(rows[order[start:end]], scores[order[start:end]], error)
            for start, end, error in zip(bounds[:-1], bounds[1:], self._error, strict=True)
        ]

    def _trimmed(self, rows: NDArray[np.int64], scores: NDArray[np.float32], error: np.float64) -> NDArray[np.int64]:
        if len(rows) <= self._k:
            return rows
        kth = np.partition(scores, len(rows) - self._k)[len(rows) - self._k]
        kept: NDArray[np.int64] = rows[scores >= kth - 2 * error]
        return kept


def scan_candidates(
    queries: NDArray[np.float32], parts: Sequence[Rows], k: int, metric: Metric
) -> list[NDArray[np.int64]]:
    """Returns for each query rows among which its k best are, with all that tie with them.

    Args:
        queries: `[m, d]`.
        parts: Rows, numbered through.
        k: Neighbours wanted, at least 1.
        metric: How closeness is scored.

    Returns:
        Per query the row numbers, ascending; k of them and a few more, or all live rows where there are fewer.
    """
    shortlist = _Shortlist(len(queries), k)
    offset = 0
    for part in parts:
        for block, numbers in _blocks(part):
            scores = approximate_scores(queries, block, metric)
            if block.alive is not None:
                scores[:, ~block.alive] = -np.inf
            shortlist.add(scores, rounding_error(queries, block, metric), numbers + offset)
        offset += len(part)
    return shortlist.of_each_query()


def _blocks(rows: Rows) -> Iterator[tuple[Rows, NDArray[np.int64]]]:
    """Yields rows with their numbers, a block at a time; where few of them live, those alone, copied together."""
    if rows.alive is not None and rows.alive_count < _SPARSE_SHARE * len(rows):
        living = np.flatnonzero(rows.alive)
        for start in range(0, len(living), _BLOCK_ROWS):
            chosen = living[start : start + _BLOCK_ROWS]
            rows.check(chosen)
            yield _take(rows, chosen), chosen
        return
    for start in range(0, len(rows), _BLOCK_ROWS):
        if rows.guard is not None:
            rows.guard.check_range(start, start + _BLOCK_ROWS)
        block = _slice(rows, start, start + _BLOCK_ROWS)
        yield block, np.arange(start, start + len(block))


def _take(rows: Rows, chosen: NDArray[np.int64]) -> Rows:
    return Rows(
        vectors=rows.vectors[chosen],
        sq_norms=rows.sq_norms[chosen],
        keys=rows.keys[chosen],
        versions=rows.versions[chosen],
        ids=rows.ids,
        alive=None,
    )


def _slice(rows: Rows, start: int, end: int) -> Rows:
    if start == 0 and end >= len(rows):
        return rows
    return Rows(
        vectors=rows.vectors[start:end],
        sq_norms=rows.sq_norms[start:end],
        keys=rows.keys[start:end],
        versions=rows.versions[start:end],
        ids=rows.ids,
        alive=None if rows.alive is None else rows.alive[start:end],
    )

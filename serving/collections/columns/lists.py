"""A column of lists of strings, each string by its code in the field's dictionary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.collections.columns.chunks import ChunkedArray
from serving.collections.columns.column import Column, ColumnView
from serving.collections.columns.dictionary import Dictionary, recode

__all__ = ["ListColumn", "ListView"]


class ListView(ColumnView):
    """A column of lists as of one commit.

    Args:
        present: As in `ColumnView`.
        spans: `[n, 2]`, in chunks: where each row's codes begin and end in the pool.
        pool: `[p]` codes, in chunks.
        owners: `[p]`: the row each code was written for; no longer that row's where its span has moved.
    """

    def __init__(
        self,
        present: tuple[NDArray[Any], ...],
        spans: tuple[NDArray[Any], ...],
        pool: tuple[NDArray[Any], ...],
        owners: tuple[NDArray[Any], ...],
    ) -> None:
        super().__init__(present, spans)
        self._pool = pool
        self._owners = owners

    def contains(self, holds: Callable[[NDArray[Any]], NDArray[np.bool_]]) -> NDArray[np.bool_]:
        """Says which rows hold a string for which a test of its code holds.

        Args:
            holds: Takes codes `[m]`, says of each whether it holds.

        Returns:
            `[n]`.
        """
        found = np.zeros(sum(len(chunk) for chunk in self._present), dtype=np.bool_)
        spans = np.concatenate([np.empty((0, 2), dtype=np.int64), *self._values])
        start = 0
        for codes, owners in zip(self._pool, self._owners, strict=True):
            hits = np.flatnonzero(holds(codes))
            rows, places = owners[hits], hits + start
            found[rows[(spans[rows, 0] <= places) & (places < spans[rows, 1])]] = True
            start += len(codes)
        return found


class ListColumn(Column):
    """Lists of strings: the codes of all of them in one pool, and per row a span of it.

    Args:
        dictionary: Numbers the strings.
    """

    def __init__(self, dictionary: Dictionary) -> None:
        super().__init__()
        self.dictionary = dictionary
        self._spans = ChunkedArray(np.int64, (2,))
        self._pool = ChunkedArray(np.int32)
        self._owners = ChunkedArray(np.int64)
        self._dead = 0

    def storage(self) -> tuple[int, int]:
        """Returns how many strings are in use, and how many are kept."""
        return self._pool.count - self._dead, self._pool.count

    def append(self, values: Sequence[Any]) -> None:
        """Adds rows at the end; as in `Column`."""
        lists = [self.dictionary.encode(value or ()) for value in values]
        self._append(
            np.fromiter((value is not None for value in values), dtype=np.bool_, count=len(values)),
            np.fromiter(map(len, lists), dtype=np.int64, count=len(lists)),
            np.array([code for codes in lists for code in codes], dtype=np.int32),
        )

    def replace(self, row: int, value: Any) -> None:
        """Changes one row; what it held stays in the pool, owned by nobody, until the column is packed."""
        codes = self.dictionary.encode(value or ())
        start = self._pool.count
        old_start, old_end = self._spans.row(row)
        self._dead += int(old_end - old_start)
        self._pool.append(np.array(codes, dtype=np.int32))
        self._owners.append(np.full(len(codes), row, dtype=np.int64))
        self._spans.replace(row, (start, start + len(codes)))
        self._present.replace(row, value is not None)

    def add_rows(self, source: ListColumn, rows: NDArray[np.int64]) -> None:
        """Adds rows of another column, without what its pool holds in vain; as in `Column`."""
        known = rows >= 0
        present, spans = np.zeros(len(rows), dtype=np.bool_), np.zeros((len(rows), 2), dtype=np.int64)
        present[known] = source._present.whole()[rows[known]]
        spans[known] = source._spans.whole()[rows[known]]
        lengths = spans[:, 1] - spans[:, 0]
        # The places of all codes, row after row.
        places = np.arange(lengths.sum()) + np.repeat(spans[:, 0] - (np.cumsum(lengths) - lengths), lengths)
        self._append(present, lengths, recode(source._pool.whole()[places], source.dictionary, self.dictionary))

    def snapshot(self) -> ListView:
        """Returns the column as it is now."""
        return ListView(
            self._present.snapshot(), self._spans.snapshot(), self._pool.snapshot(), self._owners.snapshot()
        )

    def _append(self, present: NDArray[np.bool_], lengths: NDArray[np.int64], codes: NDArray[np.int32]) -> None:
        ends = self._pool.count + np.cumsum(lengths)
        self._owners.append(np.repeat(np.arange(self.count, self.count + len(present)), lengths))
        self._pool.append(codes)
        self._spans.append(np.stack((ends - lengths, ends), axis=1))
        self._present.append(present)

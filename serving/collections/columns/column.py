"""One declared field of many records, in the type that makes testing it quick; written by one thread.

Rows are numbered as the index numbers its own. A row without the field is absent: no condition on the field holds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.collections.columns.chunks import ChunkedArray, map_chunks
from serving.collections.columns.dictionary import Dictionary, recode

__all__ = ["Column", "ColumnView", "FixedColumn"]


class ColumnView:
    """A column as of one commit.

    Args:
        present: `[n]` bool, in chunks: which rows have the field.
        values: `[n, ...]`, in chunks; zero where absent.
    """

    def __init__(self, present: tuple[NDArray[Any], ...], values: tuple[NDArray[Any], ...]) -> None:
        self._present = present
        self._values = values

    def exists(self) -> NDArray[np.bool_]:
        """Says which rows have the field, `[n]`."""
        return map_chunks(lambda present: present, self._present)

    def test(self, holds: Callable[[NDArray[Any]], NDArray[np.bool_]]) -> NDArray[np.bool_]:
        """Says for which rows a test of their value holds.

        Args:
            holds: Takes values `[m, ...]`, says of each whether it holds.

        Returns:
            `[n]`; false where the field is absent.
        """
        return map_chunks(lambda present, values: present & holds(values), self._present, self._values)


class Column(ABC):
    """One field of one part of the index."""

    def __init__(self) -> None:
        self._present = ChunkedArray(np.bool_)

    @property
    def count(self) -> int:
        """Rows, absent ones included."""
        return self._present.count

    def storage(self) -> tuple[int, int]:
        """Returns how many values are in use, and how many are kept."""
        return self.count, self.count

    @abstractmethod
    def append(self, values: Sequence[Any]) -> None:
        """Adds rows at the end.

        Args:
            values: Metadata values of the column's type; `None` where absent.
        """

    @abstractmethod
    def replace(self, row: int, value: Any) -> None:
        """Changes one row.

        Args:
            row: In [0, count).
            value: As for `append`.
        """

    @abstractmethod
    def add_rows(self, source: Any, rows: NDArray[np.int64]) -> None:
        """Adds rows of another column of the same field at the end.

        Args:
            source: Of the same type.
            rows: `[n]`, which of its rows; -1 for one that is absent.
        """

    @abstractmethod
    def snapshot(self) -> ColumnView:
        """Returns the column as it is now, whatever is written later."""


class FixedColumn(Column):
    """Values of one fixed width: numbers, times, truth values, places, strings by their code.

    Args:
        dtype: Of a stored value.
        encode: From metadata values to stored ones, `[n, ...]`.
        shape: Of a stored value.
        dictionary: Where stored values are codes, what they are codes of.
    """

    def __init__(
        self,
        dtype: type[np.generic],
        encode: Callable[[Sequence[Any]], Any],
        *,
        shape: tuple[int, ...] = (),
        dictionary: Dictionary | None = None,
    ) -> None:
        super().__init__()
        self._dtype = dtype
        self._encode = encode
        self._shape = shape
        self._dictionary = dictionary
        self._values = ChunkedArray(dtype, shape)

    def append(self, values: Sequence[Any]) -> None:
        """Adds rows at the end; as in `Column`."""
        present = np.fromiter((value is not None for value in values), dtype=np.bool_, count=len(values))
        stored = np.zeros((len(values), *self._shape), dtype=self._dtype)
        if present.any():
            stored[present] = self._encode([value for value in values if value is not None])
        self._present.append(present)
        self._values.append(stored)

    def replace(self, row: int, value: Any) -> None:
        """Changes one row; as in `Column`."""
        self._present.replace(row, value is not None)
        self._values.replace(row, 0 if value is None else self._encode([value])[0])

    def add_rows(self, source: FixedColumn, rows: NDArray[np.int64]) -> None:
        """Adds rows of another column; as in `Column`."""
        known = rows >= 0
        present = np.zeros(len(rows), dtype=np.bool_)
        values = np.zeros((len(rows), *self._shape), dtype=self._dtype)
        present[known] = source._present.whole()[rows[known]]
        values[known] = source._values.whole()[rows[known]]
        if self._dictionary is not None and source._dictionary is not None:
            values[present] = recode(values[present], source._dictionary, self._dictionary)
        self._present.append(present)
        self._values.append(values)

    def snapshot(self) -> ColumnView:
        """Returns the column as it is now."""
        return ColumnView(self._present.snapshot(), self._values.snapshot())

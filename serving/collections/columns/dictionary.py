"""Strings by number: each distinct one is kept once, and comparing strings becomes comparing integers."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Dictionary", "recode"]

_UNSORTED_SHARE = 8


class Dictionary:
    """Numbers strings in the order in which they come; a number is never used for another.

    One thread adds, others look up: they may see strings that were added since, which no row of theirs has.
    """

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._strings: list[str] = []
        self._sorted: tuple[list[str], int] = ([], 0)

    def __len__(self) -> int:
        return len(self._strings)

    def encode(self, strings: Iterable[str]) -> list[int]:
        """Returns the codes of strings, new ones for those that are new.

        Args:
            strings: Any.

        Returns:
            One code each.
        """
        codes = []
        for string in strings:
            code = self._codes.get(string)
            if code is None:
                code = len(self._strings)
                # The list first: whoever finds the code must find the string.
                self._strings.append(string)
                self._codes[string] = code
            codes.append(code)
        return codes

    def find(self, strings: Iterable[object]) -> NDArray[np.int64]:
        """Returns the codes of those strings that are known.

        Args:
            strings: Any.

        Returns:
            At most one code each.
        """
        found = (self._codes.get(string) for string in strings if isinstance(string, str))
        return np.array([code for code in found if code is not None], dtype=np.int64)

    def find_prefix(self, prefix: str) -> NDArray[np.int64]:
        """Returns the codes of all strings that begin with another.

        Code points are ordered as their UTF-8 bytes are, so Python's order is the bytewise one.

        Args:
            prefix: What they begin with.

        Returns:
            Codes, in no order.
        """
        ordered, newer = self._ordered()
        width = len(prefix)
        first = bisect_left(ordered, prefix)
        last = bisect_right(ordered, prefix, lo=first, key=lambda string: string[:width])
        found = [*ordered[first:last], *(string for string in newer if string.startswith(prefix))]
        return self.find(found)

    def string(self, code: int) -> str:
        """Returns the string of a code.

        Args:
            code: From `encode`.

        Returns:
            The string.
        """
        return self._strings[code]

    def _ordered(self) -> tuple[list[str], list[str]]:
        """Returns all but the newest strings in order, and the newest; sorted again when those have become many."""
        ordered, covered = self._sorted
        newer = self._strings[covered:]
        if len(newer) * _UNSORTED_SHARE > len(ordered):
            # Two runs, one of them sorted: the sort merges them.
            ordered, covered, newer = sorted([*ordered, *newer]), covered + len(newer), []
            self._sorted = (ordered, covered)
        return ordered, newer


def recode(codes: NDArray[np.int32], old: Dictionary, new: Dictionary) -> NDArray[np.int32]:
    """Returns the codes that strings have in another dictionary, where those in use are added.

    Args:
        codes: `[n]`.
        old: What they are codes of.
        new: What they become codes of.

    Returns:
        `[n]`.
    """
    if old is new:
        return codes
    used, places = np.unique(codes, return_inverse=True)
    return np.array(new.encode(old.string(code) for code in used.tolist()), dtype=np.int32)[places]

"""Holds writes back where the index falls behind, so that searches stay fast."""

from __future__ import annotations

from serving.errors import Overloaded

__all__ = ["write_delay_s"]

_ROOM = 3
"""Times the bound that the tail may grow beyond it before writes are refused."""
_LAST_DELAY_S = 0.001
"""Delay of each record just below the refusal: 1,000 records a second and caller."""
_RETRY_S = 2.0


def write_delay_s(overhang: int, record_count: int, bound: int) -> float:
    """Returns how long a write should wait; the further the index is behind, the longer.

    Args:
        overhang: Rows by which the tail is longer than it may be; 0: none.
        record_count: Records of the write.
        bound: Length that the tail may have.

    Returns:
        Seconds, growing with the square of the overhang, so that a short one is hardly felt.

    Raises:
        Overloaded: The tail has three times the bound more than it may.
    """
    share = overhang / (_ROOM * bound)
    if share >= 1:
        raise Overloaded(
            f"the index is {overhang:,} records behind, at most {_ROOM * bound:,} are kept; write again in a moment",
            retry_after_s=_RETRY_S,
            overhang=overhang,
            limit=_ROOM * bound,
        )
    return _LAST_DELAY_S * share * share * record_count

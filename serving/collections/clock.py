"""Time as collections count it: microseconds since 1970 that never run backwards."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

__all__ = ["SteadyClock", "microseconds_of", "moment_of", "utc_now"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def utc_now() -> datetime:
    """Returns the time, in UTC."""
    return datetime.now(UTC)


def microseconds_of(moment: datetime) -> int:
    """Returns microseconds since 1970.

    Args:
        moment: With a time zone.

    Returns:
        Negative before 1970.
    """
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(microseconds: int) -> datetime:
    """Returns the moment that lies so many microseconds after 1970.

    Args:
        microseconds: From `microseconds_of`.

    Returns:
        In UTC.
    """
    return _EPOCH + microseconds * _MICROSECOND


class SteadyClock:
    """A clock that stands still while the system's is set back: a record that has expired does not come back.

    Args:
        clock: Tells the time, with a time zone.
    """

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._latest_us = -(2**63)
        self._lock = threading.Lock()

    def now_us(self) -> int:
        """Returns microseconds since 1970, never fewer than before."""
        now_us = microseconds_of(self._clock())
        with self._lock:
            self._latest_us = max(self._latest_us, now_us)
            return self._latest_us

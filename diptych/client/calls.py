"""One call to the server as a value, and when a failed one is worth repeating; no transport appears here."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message

from diptych.client.errors import ClientError, OverloadedError, UnavailableError

__all__ = ["Attempts", "Call", "Operation", "RetryPolicy"]

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Call:
    """One unary call."""

    method: str
    """`Service/Method` within `diptych.v1`."""
    request: Message
    reply_type: type[Message]
    repeatable: bool = True
    """Whether doing it twice is as good as once: reads, and writes under a request id."""

    @property
    def path(self) -> str:
        """The full name that gRPC wants."""
        return f"/diptych.v1.{self.method}"


Operation = Generator[Call, Any, Result]
"""What one method of the client does: yields calls, is sent their replies, returns the result. Both clients run it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """When and how often a failed call is repeated."""

    attempts: int = 5
    """Most attempts, the first included."""
    first_pause_s: float = 0.1
    """Pause after the first failure; it doubles with each."""
    longest_pause_s: float = 5.0
    """Bound on the pause, unless the server asks for more."""


class Attempts:
    """Counts the attempts of one call against its policy and its deadline.

    UNAVAILABLE is repeated where the call is repeatable. RESOURCE_EXHAUSTED is repeated where the server says when: it
    refused before doing anything. Nothing else is.

    Args:
        call: The call.
        policy: How often.
        timeout_s: Seconds for all attempts and pauses together.
        clock: Monotonic seconds.
        rng: Draws the jitter.
    """

    def __init__(
        self,
        call: Call,
        policy: RetryPolicy,
        timeout_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._call = call
        self._policy = policy
        self._clock = clock
        self._rng = rng or random.Random()
        self._end_s = clock() + timeout_s
        self._failed_count = 0

    def remaining_s(self) -> float:
        """Returns the seconds left of the deadline, at least a millisecond."""
        return max(self._end_s - self._clock(), 0.001)

    def pause_after(self, error: ClientError) -> float:
        """Returns how long to wait before the next attempt.

        Args:
            error: Why the last one failed.

        Returns:
            Seconds.

        Raises:
            ClientError: The error itself, where no further attempt is worthwhile.
        """
        self._failed_count += 1
        pause_s = self._pause_s(error)
        if self._failed_count >= self._policy.attempts or not self._worthwhile(error):
            raise error
        if self._clock() + pause_s >= self._end_s:
            raise error
        return pause_s

    def _worthwhile(self, error: ClientError) -> bool:
        if isinstance(error, OverloadedError):
            return error.retry_after_s is not None
        return isinstance(error, UnavailableError) and self._call.repeatable

    def _pause_s(self, error: ClientError) -> float:
        doubled_s = self._policy.first_pause_s * 2.0 ** (self._failed_count - 1)
        # Half of it is drawn, so that clients that failed together do not come back together.
        jittered_s = min(doubled_s, self._policy.longest_pause_s) * self._rng.uniform(0.5, 1.0)
        return max(jittered_s, error.retry_after_s or 0.0)

from __future__ import annotations

import random

import pytest
from google.protobuf.empty_pb2 import Empty

from diptych.client.calls import Attempts, Call, RetryPolicy
from diptych.client.errors import (
    ClientError,
    ErrorDetails,
    InvalidArgumentError,
    OverloadedError,
    UnavailableError,
)

AWAY = UnavailableError("away", code="UNAVAILABLE")
FULL = OverloadedError("full", code="RESOURCE_EXHAUSTED", details=ErrorDetails(retry_after_s=0.7))
DISK = OverloadedError("no room", code="RESOURCE_EXHAUSTED")
BAD = InvalidArgumentError("bad", code="INVALID_ARGUMENT")


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def attempts(
    *, repeatable: bool = True, timeout_s: float = 60, policy: RetryPolicy | None = None
) -> tuple[Attempts, Clock]:
    clock = Clock()
    call = Call("S/M", Empty(), Empty, repeatable)
    return Attempts(call, policy or RetryPolicy(), timeout_s, clock=clock, rng=random.Random(0)), clock


@pytest.mark.parametrize(
    ("error", "repeatable", "worthwhile"),
    [
        (AWAY, True, True),
        (AWAY, False, False),
        (FULL, True, True),
        (FULL, False, True),
        (DISK, True, False),
        (BAD, True, False),
    ],
)
def test_only_what_may_succeed_and_does_no_harm_is_repeated(
    error: ClientError, repeatable: bool, worthwhile: bool
) -> None:
    counted, _ = attempts(repeatable=repeatable)
    if worthwhile:
        assert counted.pause_after(error) > 0
    else:
        with pytest.raises(type(error)) as caught:
            counted.pause_after(error)
        assert caught.value is error


def test_pauses_double_within_their_bound_and_are_drawn_apart() -> None:
    policy = RetryPolicy(attempts=9, first_pause_s=1, longest_pause_s=4)
    counted, _ = attempts(policy=policy)
    pauses = [counted.pause_after(AWAY) for _ in range(5)]
    for pause_s, full_s in zip(pauses, [1, 2, 4, 4, 4], strict=True):
        assert full_s / 2 <= pause_s <= full_s
    assert len(set(pauses)) == 5


def test_the_server_s_own_wish_is_the_least_pause() -> None:
    assert attempts()[0].pause_after(FULL) == 0.7


def test_attempts_are_counted() -> None:
    counted, _ = attempts(policy=RetryPolicy(attempts=3))
    counted.pause_after(AWAY)
    counted.pause_after(AWAY)
    with pytest.raises(UnavailableError):
        counted.pause_after(AWAY)


def test_no_attempt_is_made_that_could_not_end_in_time() -> None:
    counted, clock = attempts(timeout_s=1)
    assert counted.remaining_s() == 1
    clock.now_s += 0.4
    assert counted.remaining_s() == pytest.approx(0.6)
    with pytest.raises(OverloadedError):
        counted.pause_after(FULL)
    clock.now_s += 5
    assert counted.remaining_s() == 0.001

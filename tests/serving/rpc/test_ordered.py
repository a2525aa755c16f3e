from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from serving.rpc.ordered import answer_in_order


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


def one(_: int) -> int:
    return 1


async def test_replies_keep_the_order_of_requests_that_end_in_another() -> None:
    finished: list[int] = []
    gates = [asyncio.Event() for _ in range(3)]

    async def answer(number: int) -> int:
        await gates[number].wait()
        finished.append(number)
        # Each lets the one before it go on: they finish in reverse.
        if number:
            gates[number - 1].set()
        return number * 10

    gates[2].set()
    assert [reply async for reply in answer_in_order(numbers(3), answer, weigh=one, room=3)] == [0, 10, 20]
    assert finished == [2, 1, 0]


async def test_no_more_than_the_bound_are_in_work() -> None:
    working, most = 0, 0

    async def answer(number: int) -> int:
        nonlocal working, most
        working += 1
        most = max(most, working)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        working -= 1
        return number

    assert [reply async for reply in answer_in_order(numbers(50), answer, weigh=one, room=4)] == list(range(50))
    assert most == 4


async def test_many_light_ones_or_few_heavy_ones_are_in_work() -> None:
    for weight, expected in ((1, 12), (5, 2), (99, 1)):
        held, gate = 0, asyncio.Event()

        async def answer(number: int, gate: asyncio.Event = gate) -> int:
            nonlocal held
            held += 1
            await gate.wait()
            return number

        def weigh(_: int, weight: int = weight) -> int:
            return weight

        replies = answer_in_order(numbers(30), answer, weigh=weigh, room=12)

        async def take_all(replies: AsyncIterator[int] = replies) -> list[int]:
            return [reply async for reply in replies]

        taking = asyncio.create_task(take_all())
        for _ in range(100):
            await asyncio.sleep(0)
        assert held == expected
        gate.set()
        assert await taking == list(range(30))


async def test_what_was_read_before_reading_failed_is_answered_first() -> None:
    async def failing() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise ConnectionError("the sender has gone")

    async def answer(number: int) -> int:
        await asyncio.sleep(0)
        return number

    replies = answer_in_order(failing(), answer, weigh=one, room=8)
    assert [await anext(replies), await anext(replies)] == [1, 2]
    with pytest.raises(ConnectionError, match="the sender has gone"):
        await anext(replies)


async def test_a_failed_answer_ends_the_stream_and_stops_the_others() -> None:
    stopped: list[int] = []

    async def answer(number: int) -> int:
        if number == 0:
            raise ValueError("no answer")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.append(number)
            raise
        return number

    async def take_all() -> None:
        async for _ in answer_in_order(numbers(3), answer, weigh=one, room=3):
            pass

    with pytest.raises(ValueError, match="no answer"):
        await take_all()
    assert set(stopped) <= {1, 2}
    assert len(asyncio.all_tasks()) == 1


async def test_a_caller_that_leaves_stops_the_work() -> None:
    async def answer(number: int) -> int:
        if number:
            await asyncio.Event().wait()
        return number

    replies = answer_in_order(numbers(5), answer, weigh=one, room=3)
    assert await anext(replies) == 0
    await replies.aclose()  # type: ignore[attr-defined]  # it is a generator
    assert len(asyncio.all_tasks()) == 1

"""Answers a stream in order while several of its requests are worked on at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

__all__ = ["STREAM_ROOM_BYTES", "answer_in_order"]

Request = TypeVar("Request")
Reply = TypeVar("Reply")


STREAM_ROOM_BYTES = 32 * 1024 * 1024
"""Memory that one stream's requests in work, and their replies, may take: thousands of small ones, few large ones."""


class _Room:
    """Memory that is taken and given back, in the order of asking; who asks for more than there is gets all of it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = size
        self._given = asyncio.Event()

    async def take(self, wanted: int) -> int:
        taken = min(wanted, self._size)
        while self._free < taken:
            self._given.clear()
            await self._given.wait()
        self._free -= taken
        return taken

    def give(self, taken: int) -> None:
        self._free += taken
        self._given.set()


async def answer_in_order(
    requests: AsyncIterator[Request],
    answer: Callable[[Request], Awaitable[Reply]],
    *,
    weigh: Callable[[Request], int],
    room: int = STREAM_ROOM_BYTES,
) -> AsyncIterator[Reply]:
    """Yields one reply per request, in the order of the requests.

    Where reading the requests fails, those read before are answered first.

    Args:
        requests: The stream.
        answer: Makes a reply.
        weigh: Tells a request's weight, with that of its reply; above 0.
        room: Most weight in work at a time, or else one request; further ones are not read, which holds the sender up.

    Yields:
        The replies.
    """
    # Each entry is a request in work and its weight; None marks the end. What is sent on weighs nothing any more.
    pending: asyncio.Queue[tuple[asyncio.Task[Reply], int] | None] = asyncio.Queue()
    free = _Room(room)
    tasks: set[asyncio.Task[Reply]] = set()

    async def work(request: Request) -> Reply:
        return await answer(request)

    async def read() -> None:
        try:
            async for request in requests:
                taken = await free.take(weigh(request))
                task = asyncio.create_task(work(request))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                pending.put_nowait((task, taken))
        finally:
            pending.put_nowait(None)

    reader = asyncio.create_task(read())
    try:
        while (work_ahead := await pending.get()) is not None:
            task, taken = work_ahead
            reply = await task
            free.give(taken)
            yield reply
        await reader
    finally:
        reader.cancel()
        for task in tasks.copy():
            task.cancel()
        await asyncio.gather(reader, *tasks, return_exceptions=True)

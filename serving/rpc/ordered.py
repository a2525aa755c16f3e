"""Answers a stream in order while several of its requests are worked on at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

__all__ = ["answer_in_order"]

Request = TypeVar("Request")
Reply = TypeVar("Reply")


async def answer_in_order(
    requests: AsyncIterator[Request], answer: Callable[[Request], Awaitable[Reply]], *, ahead: int
) -> AsyncIterator[Reply]:
    """Yields one reply per request, in the order of the requests.

    Where reading the requests fails, those read before are answered first.

    Args:
        requests: The stream.
        answer: Makes a reply.
        ahead: Most requests in work at a time; further ones are not read, which holds the sender up.

    Yields:
        The replies.
    """
    # Each entry is a request in work; None marks the end. The slot bounds what is read but not yet answered.
    pending: asyncio.Queue[asyncio.Task[Reply] | None] = asyncio.Queue()
    slots = asyncio.Semaphore(ahead)
    tasks: set[asyncio.Task[Reply]] = set()

    async def work(request: Request) -> Reply:
        return await answer(request)

    async def read() -> None:
        try:
            async for request in requests:
                await slots.acquire()
                task = asyncio.create_task(work(request))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                pending.put_nowait(task)
        finally:
            pending.put_nowait(None)

    reader = asyncio.create_task(read())
    try:
        while (task := await pending.get()) is not None:
            reply = await task
            slots.release()
            yield reply
        await reader
    finally:
        reader.cancel()
        for task in tasks.copy():
            task.cancel()
        await asyncio.gather(reader, *tasks, return_exceptions=True)

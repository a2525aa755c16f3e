"""Drains a server: refuses new calls, lets open streams end, and knows when all that was accepted is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc import aio

from serving.errors import Draining
from serving.rpc.interception import Around

__all__ = ["Drain", "DrainAdmission", "DrainStreams"]

HEALTH_PREFIX = "/grpc.health.v1."
"""Health is asked to the end: it is how callers learn of the drain."""


class Drain:
    """The moment from which the server takes nothing new, and the calls that were accepted before."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self._accepted_count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def begun(self) -> bool:
        """Whether it has begun."""
        return self._begun.is_set()

    def begin(self) -> None:
        """Begins it: new calls are refused, open streams stop reading."""
        self._begun.set()

    async def wait(self) -> None:
        """Returns once it has begun."""
        await self._begun.wait()

    async def wait_idle(self, timeout_s: float) -> bool:
        """Returns once every accepted call has ended.

        Args:
            timeout_s: Longest wait.

        Returns:
            Whether they all have.
        """
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    @asynccontextmanager
    async def accept(self, method: str, _context: aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
        """Counts a call while it lasts, or refuses it.

        Args:
            method: Its full name.
            _context: The call.

        Yields:
            Nothing.

        Raises:
            Draining: The drain has begun.
        """
        if method.startswith(HEALTH_PREFIX):
            yield
            return
        if self.begun:
            raise Draining("the server is shutting down; call another, or try later")
        self._accepted_count += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._accepted_count -= 1
            if not self._accepted_count:
                self._idle.set()

    async def read_until_begun(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Yields a stream's requests, and raises where the drain begins before the stream ends.

        Args:
            requests: The requests as gRPC gives them.

        Yields:
            Each request.

        Raises:
            Draining: The drain has begun; the requests yielded before are still to be answered.
        """
        begun = asyncio.create_task(self.wait())
        try:
            while True:
                following = asyncio.ensure_future(anext(requests))
                await asyncio.wait({following, begun}, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    raise Draining("the server is shutting down; send the rest to another, or later")
                try:
                    request = following.result()
                except StopAsyncIteration:
                    return
                yield request
        finally:
            begun.cancel()


class DrainAdmission(Around):
    """Refuses calls once the drain has begun, and counts those that came before.

    Args:
        drain: The server's.
    """

    def __init__(self, drain: Drain) -> None:
        super().__init__(drain.accept)


class DrainStreams(aio.ServerInterceptor):
    """Gives bidirectional calls a request stream that ends with the drain.

    Args:
        drain: The server's.
    """

    def __init__(self, drain: Drain) -> None:
        self._drain = drain

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wraps the handler where both sides stream; leaves the others as they are.

        Args:
            continuation: Finds the handler.
            handler_call_details: Which method is called.

        Returns:
            The handler.
        """
        handler = await continuation(handler_call_details)
        if handler is None or not (handler.request_streaming and handler.response_streaming):
            return handler
        behaviour: Any = handler.stream_stream

        async def call(requests: AsyncIterator[Any], context: aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            async for reply in behaviour(self._drain.read_until_begun(aiter(requests)), context):
                yield reply

        return grpc.stream_stream_rpc_method_handler(
            call, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )

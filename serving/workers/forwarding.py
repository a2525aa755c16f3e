"""Hands calls to the owner as they came, bytes in and bytes out: every kind of call, its metadata and its status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, NoReturn

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc import aio

from serving.errors import ServingError, Unavailable

__all__ = ["Forwarding"]

# What passes through is any service's messages, as bytes.
Context = aio.ServicerContext[Any, Any]
Call = Any
Metadata = tuple[tuple[str, str | bytes], ...]

HOP_KEYS = frozenset({"user-agent", "content-type", "te"})
"""Metadata of one connection, which the next has its own of; so are all keys that begin with `grpc-`."""
STATUS_DETAILS = "grpc-status-details-bin"


class Forwarding(grpc.GenericRpcHandler):
    """Handlers of calls that the owner answers; those that are answered here are left to the handlers after it.

    Args:
        services: The services of the owner.
        channel: Leads to it.
        is_local: Says of a method (`/package.Service/Method`) whether it is answered in this process just now.
    """

    def __init__(
        self, services: Iterable[ServiceDescriptor], channel: aio.Channel, *, is_local: Callable[[str], bool]
    ) -> None:
        methods = (method for service in services for method in service.methods)
        self._handlers = {_path(method): _handler(method, channel) for method in methods}
        self._is_local = is_local

    def takes(self, method: str) -> bool:
        """Says whether calls of a method are forwarded just now.

        Args:
            method: `/package.Service/Method`.

        Returns:
            False for one that is answered here, and for an unknown one.
        """
        return method in self._handlers and not self._is_local(method)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Finds the handler of a call.

        Args:
            handler_call_details: Which method is called.

        Returns:
            One that forwards it; None where it is not forwarded.
        """
        method = str(handler_call_details.method)
        return self._handlers[method] if self.takes(method) else None


def _path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def _handler(method: MethodDescriptor, channel: aio.Channel) -> grpc.RpcMethodHandler[Any, Any]:
    # Without serialisers gRPC gives and takes bytes.
    kinds: dict[tuple[bool, bool], tuple[Any, Any]] = {
        (False, False): (channel.unary_unary, grpc.unary_unary_rpc_method_handler),
        (False, True): (channel.unary_stream, grpc.unary_stream_rpc_method_handler),
        (True, False): (channel.stream_unary, grpc.stream_unary_rpc_method_handler),
        (True, True): (channel.stream_stream, grpc.stream_stream_rpc_method_handler),
    }
    open_call, make = kinds[method.client_streaming, method.server_streaming]
    relay = _Relay(open_call(_path(method)), request_streaming=method.client_streaming)
    handler: grpc.RpcMethodHandler[Any, Any] = make(relay.stream if method.server_streaming else relay.answer)
    return handler


class _Relay:
    """Forwards the calls of one method."""

    def __init__(self, begin: Callable[..., Call], *, request_streaming: bool) -> None:
        self._begin = begin
        self._request_streaming = request_streaming

    async def answer(self, request: Any, context: Context) -> bytes:
        """Forwards a call that has one reply."""
        try:
            async with self._forwarded(request, context) as call:
                reply: bytes = await call
        except aio.AioRpcError as error:
            await _end_like(error, context)
        return reply

    async def stream(self, request: Any, context: Context) -> AsyncIterator[bytes]:
        """Forwards a call whose replies are a stream; the next is read once the last was sent."""
        try:
            async with self._forwarded(request, context) as call:
                async for reply in call:
                    yield reply
        except aio.AioRpcError as error:
            await _end_like(error, context)

    @asynccontextmanager
    async def _forwarded(self, request: Any, context: Context) -> AsyncIterator[Call]:
        """Lets the owner's call last no longer than the caller's."""
        settings = {"timeout": context.time_remaining(), "metadata": _passed_on(context.invocation_metadata())}
        call = self._begin(**settings) if self._request_streaming else self._begin(request, **settings)
        try:
            async with _sending(call, request) if self._request_streaming else _nothing():
                first = _pairs(await call.initial_metadata())
                if first:
                    await context.send_initial_metadata(first)
                yield call
            context.set_trailing_metadata(_pairs(await call.trailing_metadata()))
        finally:
            call.cancel()


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def _sending(call: Call, requests: AsyncIterator[bytes]) -> AsyncIterator[None]:
    """Passes a stream's requests on while its replies are read."""
    sender = asyncio.create_task(_send(call, requests))
    try:
        yield
    finally:
        sender.cancel()
        [failure] = await asyncio.gather(sender, return_exceptions=True)
    if isinstance(failure, ServingError):
        raise failure


async def _send(call: Call, requests: AsyncIterator[bytes]) -> None:
    # A call that has ended takes nothing more; why it ended is in its status.
    with suppress(aio.AioRpcError, asyncio.InvalidStateError):
        try:
            async for request in requests:
                await call.write(request)
        except ServingError:
            # This process drains: what was sent is answered first.
            await call.done_writing()
            raise
        await call.done_writing()


async def _end_like(error: aio.AioRpcError, context: Context) -> NoReturn:
    """Ends a call with the status that the owner gave; where the owner gave none, says that it cannot be reached."""
    trailing = _pairs(error.trailing_metadata())
    if error.code() is grpc.StatusCode.UNAVAILABLE and STATUS_DETAILS not in dict(trailing):
        raise Unavailable(
            "the process that keeps the collections cannot be reached just now; try again in a moment"
        ) from error
    await context.abort(error.code(), error.details() or "", trailing)


def _passed_on(metadata: Any) -> Metadata:
    return tuple(
        (key, value) for key, value in _pairs(metadata) if key not in HOP_KEYS and not key.startswith(("grpc-", ":"))
    )


def _pairs(metadata: Any) -> Metadata:
    return tuple((str(key), value) for key, value in metadata or ())

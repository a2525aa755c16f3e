"""Wraps every call of a server in an async context manager: one shape for metrics, errors and whatever comes next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import grpc
from grpc import aio
from grpc_status import rpc_status

from serving.errors import ServingError
from serving.rpc.status import status_of
from serving.telemetry.call import note_call

__all__ = ["Around", "ErrorBoundary", "abort_with", "code_name"]

# What passes through is any service's messages: the types of one call do not matter here.
Context = aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # not a generic class when it runs

CODE_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


class Around(aio.ServerInterceptor):
    """Enters a context manager around each call.

    Args:
        around: Called with the full method name (`/package.Service/Method`) and the call's context.
    """

    def __init__(self, around: Callable[[str, Context], AbstractAsyncContextManager[None]]) -> None:
        self._around = around

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Finds the call's handler and wraps it.

        Args:
            continuation: Finds the handler.
            handler_call_details: Which method is called.

        Returns:
            A handler of the same kind; None for an unknown method, which gRPC answers itself.
        """
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = str(handler_call_details.method)
        if handler.response_streaming:
            return self._wrap_stream(handler, method)
        return self._wrap_unary(handler, method)

    def reader(self, handler: Handler) -> Callable[[bytes], Any] | None:
        """Returns what reads the messages of the call that this task serves; for those who look at their size.

        Args:
            handler: The call's.

        Returns:
            The handler's own.
        """
        reader: Callable[[bytes], Any] | None = handler.request_deserializer
        return reader

    def _wrap_unary(self, handler: Handler, method: str) -> Handler:
        behaviour: Any = handler.stream_unary if handler.request_streaming else handler.unary_unary

        async def call(request: Any, context: Context) -> Any:
            async with self._around(method, context):
                return await behaviour(request, context)

        make: Any = (
            grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
        )
        return self._remake(make, call, handler)

    def _wrap_stream(self, handler: Handler, method: str) -> Handler:
        behaviour: Any = handler.stream_stream if handler.request_streaming else handler.unary_stream

        async def call(request: Any, context: Context) -> AsyncIterator[Any]:
            async with self._around(method, context):
                async for reply in behaviour(request, context):
                    yield reply

        make: Any = (
            grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
        )
        return self._remake(make, call, handler)

    def _remake(self, make: Any, call: Any, handler: Handler) -> Handler:
        remade: Handler = make(
            call, request_deserializer=self.reader(handler), response_serializer=handler.response_serializer
        )
        return remade


def code_name(error: BaseException, context: Context) -> str:
    """Names the status of a call that failed.

    Args:
        error: What its handler raised, after `ErrorBoundary`.
        context: The call.

    Returns:
        The status code's name.
    """
    # A stream whose caller has left is closed where it yields.
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "CANCELLED"
    code: object = context.code()
    # grpc.aio gives the number or the enum, by where the code was set.
    number = code.value[0] if isinstance(code, grpc.StatusCode) else code
    return CODE_NAMES.get(number, "UNKNOWN") if isinstance(number, int) else "UNKNOWN"


async def abort_with(context: Context, error: BaseException) -> None:
    """Ends a call with the status of an error, details included.

    Args:
        context: The call.
        error: What was raised.
    """
    note_call(reason=error.reason if isinstance(error, ServingError) else "INTERNAL")
    status = rpc_status.to_status(status_of(error))
    await context.abort(status.code, status.details or "", status.trailing_metadata or ())


class ErrorBoundary(Around):
    """Turns whatever a servicer raises into a status; nothing internal leaks."""

    def __init__(self) -> None:
        super().__init__(self._boundary)

    @staticmethod
    @asynccontextmanager
    async def _boundary(_method: str, context: Context) -> AsyncIterator[None]:
        try:
            yield
        except aio.AbortError:
            raise
        except Exception as error:
            await abort_with(context, error)

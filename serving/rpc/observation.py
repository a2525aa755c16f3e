"""Watches each call from its arrival to its end, and writes a line of it: what was called, never what was sent."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from serving.rpc.interception import Around, Context, Handler, code_name
from serving.rpc.tracing import Tracing
from serving.telemetry.call import CallRecord, current_call, watch_call

__all__ = ["Observation", "trace_id_of"]

logger = logging.getLogger(__name__)

UNWATCHED = ("/grpc.health.", "/grpc.reflection.")
"""Asked by machines every few seconds; the metrics count them."""
TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
"""As W3C Trace Context has it."""


class Observation(Around):
    """Keeps a record of each call, and tells of it when the call ends.

    Args:
        access_log: Whether in the log.
        tracing: Makes spans of calls; None makes none.
    """

    def __init__(self, *, access_log: bool, tracing: Tracing | None) -> None:
        super().__init__(self._watch)
        self._access_log = access_log
        self._tracing = tracing

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Finds the call's handler and wraps it; runs in the task that then serves the call.

        Args:
            continuation: Finds the handler.
            handler_call_details: Which method is called.

        Returns:
            A handler of the same kind; None for an unknown method, which gRPC answers itself.
        """
        method = str(handler_call_details.method)
        if method.startswith(UNWATCHED):
            return await continuation(handler_call_details)
        watch_call(CallRecord(method.removeprefix("/")))
        return await super().intercept_service(continuation, handler_call_details)

    def reader(self, handler: Handler) -> Callable[[bytes], Any] | None:
        """Returns what reads the call's messages and adds up their sizes.

        Args:
            handler: The call's.

        Returns:
            A reader of its own for this call.
        """
        call, read = _record(), super().reader(handler)
        if read is None:
            return None

        def count_and_read(data: bytes) -> Any:
            call.request_bytes += len(data)
            return read(data)

        return count_and_read

    @asynccontextmanager
    async def _watch(self, _method: str, context: Context) -> AsyncIterator[None]:
        call = _record()
        span = self._tracing.begin(call, context.invocation_metadata() or ()) if self._tracing else None
        # Now: once a call was cancelled, asking gRPC for its peer ends the process.
        peer, trace_id = context.peer(), trace_id_of(context) if span is None else span.trace_id
        start_s, code = time.perf_counter(), "OK"
        try:
            yield
        except BaseException as error:
            code = code_name(error, context)
            raise
        finally:
            duration_s = time.perf_counter() - start_s
            if span is not None:
                span.end(call, code)
            if self._access_log:
                logger.info("call", extra=_fields(call, code, duration_s, peer, trace_id))


def _record() -> CallRecord:
    call = current_call()
    if call is None:
        raise AssertionError("the task that serves a call is the one that found its handler")
    return call


def trace_id_of(context: Context) -> str:
    """Returns the id of the trace that a caller says its call belongs to.

    Args:
        context: The call.

    Returns:
        32 hexadecimal digits; empty where the caller says none.
    """
    for key, value in context.invocation_metadata() or ():
        if key == "traceparent":
            found = TRACEPARENT.fullmatch(value if isinstance(value, str) else "")
            return found[1] if found else ""
    return ""


def _fields(call: CallRecord, code: str, duration_s: float, peer: str, trace_id: str) -> dict[str, object]:
    """Returns a call's line; what is not known has no field."""
    known: dict[str, object] = {
        "reason": call.reason,
        "encoder": call.encoder,
        "collection": call.collection,
        "items": call.item_count,
        "failed_items": call.failed_item_count,
        "trace_id": trace_id,
    }
    return {
        "method": call.method,
        "code": code,
        "duration_s": round(duration_s, 6),
        "request_bytes": call.request_bytes,
        "peer": peer,
        **{name: value for name, value in known.items() if value},
    }

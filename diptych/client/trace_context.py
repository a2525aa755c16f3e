"""Passes the caller's trace on to the server, where the caller has one."""

from __future__ import annotations

import sys

__all__ = ["trace_metadata"]


def trace_metadata() -> tuple[tuple[str, str], ...]:
    """Returns what a call carries of the current OpenTelemetry span, by W3C Trace Context.

    Returns:
        `traceparent`, and `tracestate` where there is one; nothing without a current span.
    """
    # Who has a span has loaded this; who has not is spared it.
    if "opentelemetry.trace" not in sys.modules:
        return ()
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return tuple(carrier.items())

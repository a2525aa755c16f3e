"""A span for each call, with a child for each of its stages, sent to a collector by OTLP over gRPC.

OpenTelemetry is loaded only where traces are wanted. It stays this server's own: no global provider is set.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import grpc

from diptych.version import __version__
from serving.telemetry.call import CallRecord, Stage
from serving.telemetry.config import TracingConfig

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

__all__ = ["CallSpan", "Tracing"]

logger = logging.getLogger(__name__)

FLUSH_S = 5.0
"""Longest wait at the end for a collector that does not answer."""
TRACE_HEADERS = ("traceparent", "tracestate")
SERVER_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""Codes that the semantic conventions call errors of the server, not of the caller."""


class Tracing:
    """Begins spans, and sends them from a thread of its own: what the collector does holds up no call.

    Args:
        config: Where they go, and how many; the endpoint is set.

    Raises:
        ValueError: The extra is not installed.
    """

    def __init__(self, config: TracingConfig) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ModuleNotFoundError as error:
            raise ValueError(
                "traces need an extra: pip install 'diptych[tracing]'; for no traces leave out --traces-endpoint, "
                "and set OTEL_TRACES_EXPORTER=none where OTEL_EXPORTER_OTLP_ENDPOINT is set"
            ) from error
        ratio = config.traces_ratio
        own = Resource.create({"service.name": "diptych", "service.version": __version__})
        self._exporter = OTLPSpanExporter(endpoint=config.traces_endpoint)
        self._provider = TracerProvider(
            # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say it better.
            resource=own.merge(OTELResourceDetector().detect()),
            sampler=None if ratio is None else ParentBased(TraceIdRatioBased(ratio)),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("diptych", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, call: CallRecord, metadata: Iterable[tuple[str, str | bytes]]) -> CallSpan:
        """Begins the span of a call that has just arrived, and listens to its stages.

        Args:
            call: The call.
            metadata: What came with it; `traceparent` says whose child it is.

        Returns:
            The span, to be ended.
        """
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind

        carrier = {key: value for key, value in metadata if key in TRACE_HEADERS and isinstance(value, str)}
        service, _, method = call.method.rpartition("/")
        span = self._tracer.start_span(
            call.method,
            context=self._propagator.extract(carrier, context=Context()),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
        )
        begun = CallSpan(self._tracer, span)
        if span.is_recording():
            call.on_stage = begun.add_stage
        return begun

    async def close(self, timeout_s: float) -> None:
        """Sends what is left, and stops.

        Args:
            timeout_s: Longest wait; what the collector has not taken by then is dropped, at the latest after 5 s.
        """
        sending = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        sending.start()
        await asyncio.to_thread(sending.join, min(timeout_s, FLUSH_S))
        if sending.is_alive():
            logger.warning("collector did not take the last spans")
            # Ends its retries and the call in flight.
            await asyncio.to_thread(self._exporter.shutdown)


class CallSpan:
    """The span of one call.

    Args:
        tracer: Makes its children.
        span: The span.
    """

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self._epoch_ns = time.time_ns() - time.monotonic_ns()
        """What turns the monotonic clock, by which stages are timed, into the wall's."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits, whether the trace is sampled or not; empty where OpenTelemetry is switched off."""
        context = self._span.get_span_context()
        return f"{context.trace_id:032x}" if context.is_valid else ""

    def add_stage(self, stage: Stage) -> None:
        """Adds a stage that has ended, as a child.

        Args:
            stage: The stage.
        """
        from opentelemetry.trace import StatusCode, set_span_in_context

        child = self._tracer.start_span(
            stage.name,
            context=set_span_in_context(self._span),
            start_time=self._wall_ns(stage.start_s),
            attributes={f"diptych.{name}": value for name, value in stage.attributes.items()},
        )
        if stage.failed:
            child.set_status(StatusCode.ERROR)
        child.end(self._wall_ns(stage.end_s))

    def end(self, call: CallRecord, code: str) -> None:
        """Ends the span with what became of the call.

        Args:
            call: What became known of it.
            code: The status code's name.
        """
        from opentelemetry.trace import StatusCode

        known: dict[str, str | int] = {
            "diptych.encoder": call.encoder,
            "diptych.collection": call.collection,
            "diptych.items": call.item_count,
            "diptych.failed_items": call.failed_item_count,
            "diptych.request_bytes": call.request_bytes,
            "diptych.reason": call.reason,
        }
        self._span.set_attribute("rpc.grpc.status_code", int(grpc.StatusCode[code].value[0]))
        self._span.set_attributes({name: value for name, value in known.items() if value})
        if code in SERVER_FAULTS:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()

    def _wall_ns(self, monotonic_s: float) -> int:
        return self._epoch_ns + round(monotonic_s * 1e9)

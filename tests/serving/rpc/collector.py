"""A collector of traces on a port of its own, as OTLP over gRPC wants it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Value = str | int | float | bool


@dataclass(frozen=True)
class Received:
    """A span as it arrived."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    status: int
    start_ns: int
    end_ns: int
    attributes: dict[str, Value]


@dataclass
class Collector:
    """What arrived."""

    endpoint: str = ""
    spans: list[Received] = field(default_factory=list)
    resources: list[dict[str, Value]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    answers: threading.Event = field(default_factory=threading.Event)
    """Cleared: it takes requests and never answers."""

    def named(self, name: str) -> Received:
        [span] = [span for span in self.spans if span.name == name]
        return span

    def children(self, parent: Received) -> list[Received]:
        found = [span for span in self.spans if span.parent_id == parent.span_id]
        return sorted(found, key=lambda span: span.start_ns)


def _values(attributes: Any) -> dict[str, Value]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def _received(span: Span) -> Received:
    return Received(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=span.kind,
        status=span.status.code,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_values(span.attributes),
    )


class _Service(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC names it
        self._collector.answers.wait(20)
        self._collector.raw.append(request.SerializeToString())
        for resource_spans in request.resource_spans:
            self._collector.resources.append(_values(resource_spans.resource.attributes))
            for scope_spans in resource_spans.scope_spans:
                self._collector.spans.extend(_received(span) for span in scope_spans.spans)
        return trace_service_pb2.ExportTraceServiceResponse()


@contextmanager
def running_collector() -> Iterator[Collector]:
    collector = Collector()
    collector.answers.set()
    server = grpc.server(ThreadPoolExecutor(2))
    register: Callable[[Any, grpc.Server], None] = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    register(_Service(collector), server)
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        collector.answers.set()
        server.stop(None).wait()

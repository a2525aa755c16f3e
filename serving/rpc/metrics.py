"""Counts and times every call, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from grpc import aio
from prometheus_client import CollectorRegistry, Gauge, Histogram, ProcessCollector, start_http_server

from serving.rpc.interception import Around, code_name

__all__ = ["CallMetrics", "MetricsEndpoint"]

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class CallMetrics(Around):
    """An interceptor with a registry of its own, so that several servers in one process do not clash."""

    def __init__(self) -> None:
        super().__init__(self._measure)
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._duration = Histogram(
            "diptych_rpc_duration_seconds",
            "Time from a call's arrival to its end, by method and status code.",
            ["method", "code"],
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self._in_flight = Gauge(
            "diptych_rpc_in_flight", "Calls that have arrived and not ended.", ["method"], registry=self.registry
        )

    @asynccontextmanager
    async def _measure(self, method: str, context: aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
        start_s = time.perf_counter()
        in_flight = self._in_flight.labels(method)
        in_flight.inc()
        code = "OK"
        try:
            yield
        except BaseException as error:
            code = code_name(error, context)
            raise
        finally:
            in_flight.dec()
            self._duration.labels(method, code).observe(time.perf_counter() - start_s)


class MetricsEndpoint:
    """The HTTP server that Prometheus scrapes.

    Args:
        registry: What it shows.
        host: Address to bind.
        port: TCP port; 0 takes a free one.

    Raises:
        OSError: The address is taken.
    """

    def __init__(self, registry: CollectorRegistry, *, host: str, port: int) -> None:
        self._server, self._thread = start_http_server(port, addr=host, registry=registry)
        self.port = int(self._server.server_port)
        """The port that is bound."""

    def close(self) -> None:
        """Stops answering and gives the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

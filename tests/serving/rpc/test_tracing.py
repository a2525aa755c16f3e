"""Traces, through a real server, a real client and a real collector."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, Tracer

from diptych.client.aio import AsyncClient
from diptych.client.calls import RetryPolicy
from diptych.client.errors import ClientError, InternalError
from diptych.client.sync import Client
from serving.config import ServerConfig
from serving.server import Server
from serving.telemetry.config import TracingConfig, with_standard_endpoint
from tests.serving.fake_encoders import FakeEncoder
from tests.serving.rpc.collector import Collector, running_collector
from tests.serving.running_server import RunningServer, running_server

MARK = "Zanzibar7381"
EMBED = "diptych.v1.EncoderService/Embed"
SERVER, ERROR = 2, 2
"""As OTLP numbers a span's kind and status."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as collector:
        yield collector


@contextmanager
def traced_server(folder: Path, collector: Collector, ratio: float | None = None) -> Iterator[RunningServer]:
    tracing = TracingConfig(traces_endpoint=collector.endpoint, traces_ratio=ratio)
    with running_server(folder, [FakeEncoder("words")], tracing=tracing) as running:
        yield running


@pytest.fixture
def own_tracer() -> Tracer:
    return TracerProvider(shutdown_on_exit=False).get_tracer("caller")


def test_a_call_is_a_span_with_its_stages_as_children(tmp_path: Path, collector: Collector) -> None:
    before_ns = time.time_ns()
    with traced_server(tmp_path, collector) as running, Client(running.address) as client:
        client.embed(["one", "one two three"])
    span = collector.named(EMBED)
    assert (span.kind, span.parent_id, span.status) == (SERVER, "", 0)
    request_bytes = span.attributes.pop("diptych.request_bytes")
    assert isinstance(request_bytes, int)
    assert 22 < request_bytes < 60
    assert span.attributes == {
        "rpc.system": "grpc",
        "rpc.service": "diptych.v1.EncoderService",
        "rpc.method": "Embed",
        "rpc.grpc.status_code": 0,
        "diptych.encoder": "words@1",
        "diptych.items": 2,
    }
    prepare, queue, compute = collector.children(span)
    assert [stage.name for stage in (prepare, queue, compute)] == ["prepare", "queue", "compute"]
    assert prepare.attributes == {"diptych.encoder": "words@1", "diptych.items": 2}
    assert compute.attributes == {
        "diptych.encoder": "words@1",
        "diptych.batch_items": 2,
        "diptych.batch_cost": 4,
        "diptych.batch_padded_cost": 6,
    }
    assert {stage.trace_id for stage in (prepare, queue, compute)} == {span.trace_id}
    moments = [before_ns, span.start_ns, prepare.start_ns, prepare.end_ns, queue.end_ns, compute.end_ns, span.end_ns]
    # Stages are timed by another clock, of which both readings are not taken at the very same moment.
    assert all(earlier <= later + 100_000_000 for earlier, later in pairwise(moments))
    assert collector.resources[0]["service.name"] == "diptych"


def test_searches_and_writes_are_stages(tmp_path: Path, collector: Collector) -> None:
    with traced_server(tmp_path, collector) as running, Client(running.address) as client:
        client.create_collection("notes", encoder="words")
        client.upsert("notes", ["a"], texts=["one"])
        client.search("notes", text="one")
        client.delete("notes", ["a"])
    stages = {
        method: [stage.name for stage in collector.children(collector.named(f"diptych.v1.{method}"))]
        for method in ("CollectionService/UpsertRecords", "SearchService/Search", "CollectionService/DeleteRecords")
    }
    assert list(stages.values()) == [
        ["prepare", "queue", "compute", "commit"],
        ["prepare", "queue", "compute", "search"],
        ["commit"],
    ]
    search = collector.children(collector.named("diptych.v1.SearchService/Search"))[-1]
    assert search.attributes == {"diptych.collection": "notes", "diptych.items": 1, "diptych.k": 10}


async def test_both_clients_pass_their_trace_on(tmp_path: Path, collector: Collector, own_tracer: Tracer) -> None:
    with traced_server(tmp_path, collector) as running:
        with Client(running.address) as client, own_tracer.start_as_current_span("sync") as span:
            client.embed(["one"])
            list(client.embed_stream([["two"], ["three"]]))
        async with AsyncClient(running.address) as other:
            with own_tracer.start_as_current_span("async") as second:
                await other.encoders()

                async def batches() -> AsyncIterator[list[str]]:
                    yield ["four"]

                async for _ in other.embed_stream(batches()):
                    pass
            await other.server()
    expected = [
        (EMBED, span),
        ("diptych.v1.EncoderService/EmbedStream", span),
        ("diptych.v1.EncoderService/ListEncoders", second),
        ("diptych.v1.EncoderService/EmbedStream", second),
    ]
    found = [(each.name, each.trace_id, each.parent_id) for each in collector.spans if each.kind == SERVER]
    contexts = [(name, each.get_span_context()) for name, each in expected]
    assert found[:4] == [(name, f"{ids.trace_id:032x}", f"{ids.span_id:016x}") for name, ids in contexts]
    assert found[4][0::2] == ("diptych.v1.AdminService/GetServerInformation", "")
    [stream, _] = [each for each in collector.spans if each.name == "diptych.v1.EncoderService/EmbedStream"]
    assert [stage.name for stage in collector.children(stream)].count("compute") in (1, 2)
    assert stream.attributes["diptych.items"] == 2


def test_failed_calls_say_why_but_not_of_what(tmp_path: Path, collector: Collector) -> None:
    with traced_server(tmp_path, collector) as running, Client(running.address) as client:
        client.create_collection("notes", encoder="words")
        with pytest.raises(ClientError):
            client.search("notes", record=MARK)
        with pytest.raises(ClientError):
            client.embed([f"{MARK} " * 9], truncate=False)
        with pytest.raises(ClientError):
            client.embed([MARK], encoder=MARK)
        encoder = running.loader.encoders["words"]
        encoder.run = None  # type: ignore[assignment,method-assign]  # a defect
        with pytest.raises(InternalError):
            client.embed([MARK])
    search = collector.named("diptych.v1.SearchService/Search")
    assert (search.status, search.attributes["diptych.reason"]) == (0, "RECORD_NOT_FOUND")
    assert search.attributes["rpc.grpc.status_code"] == 5
    broken = next(span for span in collector.spans if span.attributes.get("diptych.reason") == "INTERNAL")
    assert (broken.status, broken.attributes["rpc.grpc.status_code"]) == (ERROR, 13)
    assert [(stage.name, stage.status) for stage in collector.children(broken)][-1] == ("compute", ERROR)
    assert len(collector.spans) > 5
    assert not [raw for raw in collector.raw if MARK.encode() in raw]


def test_a_ratio_keeps_traces_from_beginning_but_callers_decide_for_theirs(
    tmp_path: Path, collector: Collector, own_tracer: Tracer
) -> None:
    with traced_server(tmp_path, collector, ratio=0.0) as running, Client(running.address) as client:
        client.embed(["one"])
        with own_tracer.start_as_current_span("sampled", kind=SpanKind.CLIENT):
            client.encoders()
    assert [span.name for span in collector.spans] == ["diptych.v1.EncoderService/ListEncoders"]


def test_health_checks_and_broken_headers_make_no_trouble(tmp_path: Path, collector: Collector) -> None:
    with traced_server(tmp_path, collector) as running, grpc.insecure_channel(running.address) as channel:
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        check(b"")
        listing: Any = channel.unary_unary("/diptych.v1.EncoderService/ListEncoders")
        listing(b"", metadata=(("traceparent", "00-zzz"), ("tracestate", "===")))
    [span] = collector.spans
    assert (span.name, span.parent_id) == ("diptych.v1.EncoderService/ListEncoders", "")


@pytest.mark.parametrize("fault", ["gone", "silent"])
def test_a_collector_that_fails_holds_nothing_up(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    monkeypatch.setattr("serving.rpc.tracing.FLUSH_S", 0.2)
    if fault == "silent":
        collector.answers.clear()
    else:
        collector.endpoint = "http://127.0.0.1:1"
    with (
        traced_server(tmp_path, collector) as running,
        Client(running.address, retries=RetryPolicy(attempts=1)) as client,
    ):
        for _ in range(3):
            assert client.embed(["one"]).vectors.dtype == np.float32
        assert running.begin_close().result(20) is True
    assert "collector did not take the last spans" in caplog.text


def test_without_the_extra_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    config = ServerConfig(data=tmp_path, tracing=TracingConfig(traces_endpoint="http://127.0.0.1:4317"))
    with pytest.raises(ValueError, match=r"pip install 'diptych\[tracing\]'"):
        Server(config)


def test_nothing_of_opentelemetry_is_loaded_where_nothing_is_traced(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from diptych.client.aio import AsyncClient\n"
        "from serving.config import ServerConfig\n"
        "from serving.server import Server\n"
        "async def main():\n"
        "    server = Server(ServerConfig(bundles=Path(sys.argv[1]), data=Path(sys.argv[1]) / 'data', port=0))\n"
        "    await server.listen()\n"
        "    await server.load()\n"
        "    async with AsyncClient(server.address) as client:\n"
        "        await client.create_collection('notes', dimension=1)\n"
        "    await server.close()\n"
        "asyncio.run(main())\n"
        "print(sorted(name for name in sys.modules if name.startswith('opentelemetry')))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_endpoint_comes_from_the_standard_variables_too() -> None:
    def endpoint(flag: str | None = None, **environment: str) -> str | None:
        return with_standard_endpoint(TracingConfig(traces_endpoint=flag), environment).traces_endpoint

    general = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://all:4317"}
    assert endpoint() is None
    assert endpoint(**general) == "http://all:4317"
    assert endpoint(**general, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="https://traces:4317") == "https://traces:4317"
    assert endpoint("http://flag:4317", **general) == "http://flag:4317"
    assert endpoint(**general, OTEL_SDK_DISABLED="true") is None
    assert endpoint(**general, OTEL_TRACES_EXPORTER="none") is None
    with pytest.raises(ValueError, match=r"OTEL_EXPORTER_OTLP_PROTOCOL \('http/protobuf'\) must be 'grpc'"):
        endpoint(**general, OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf")
    with pytest.raises(ValueError, match=r"traces_endpoint \('collector:4317'\) must be http://HOST:PORT"):
        endpoint("collector:4317")
    with pytest.raises(ValueError, match=r"traces_ratio \(1.5\) must be in \[0, 1\]"):
        TracingConfig(traces_ratio=1.5)

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from diptych.client.calls import RetryPolicy
from diptych.client.errors import ClientError, UnavailableError
from diptych.client.sync import Client
from diptych.v1 import embedding_pb2, encoder_service_pb2, encoder_service_pb2_grpc
from serving.config import ServerConfig
from serving.errors import FailedPrecondition
from serving.server import Server
from tests.serving.fake_encoders import FakeEncoder, vector_of
from tests.serving.running_server import running_server

ONCE = RetryPolicy(attempts=1)


def wait_for(path: Path) -> None:
    deadline_s = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline_s, f"{path} never came"
        time.sleep(0.01)


@contextmanager
def server_process(
    folder: Path, gate: Path, *, drain_timeout_s: float = 30.0
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, once it is ready."""
    command = [sys.executable, "-m", "tests.serving.fake_server", str(folder), str(gate), str(drain_timeout_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            address = next(line for line in lines if line.startswith("listening on")).split()[2].rstrip(",")
            next(line for line in lines if line.startswith("ready"))
            yield process, address
        finally:
            process.kill()


def test_sigterm_finishes_what_was_accepted_and_exits_0(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with server_process(tmp_path, gate) as (process, address), Client(address, retries=ONCE) as client:
        client.create_collection("notes", encoder="words")
        with ThreadPoolExecutor(1) as caller:
            accepted = caller.submit(client.upsert, "notes", ["a"], texts=["one"])
            wait_for(tmp_path / "running")
            process.send_signal(signal.SIGTERM)
            assert process.stdout is not None
            assert process.stdout.readline().startswith("stopping: finishing what was accepted")
            with Client(address, timeout_s=10, retries=ONCE) as late, pytest.raises(UnavailableError):
                late.embed(["two"])
            gate.touch()
            assert accepted.result(20).versions.tolist() == [1]
        assert process.wait(20) == 0
    with server_process(tmp_path, gate) as (_, address), Client(address) as client:
        [(identifier, score)] = client.search("notes", text="one")
        assert identifier == "a"
        assert score == pytest.approx(1.0)


def test_a_process_that_cannot_finish_in_time_exits_1_all_the_same(tmp_path: Path) -> None:
    never = tmp_path / "gate"
    with (
        server_process(tmp_path, never, drain_timeout_s=0.2) as (process, address),
        Client(address, retries=ONCE) as client,
        ThreadPoolExecutor(1) as caller,
    ):
        stuck = caller.submit(client.embed, ["one"])
        wait_for(tmp_path / "running")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 1
        assert isinstance(stuck.exception(30), ClientError)


def test_a_drain_ends_open_streams_once_what_they_sent_is_answered(tmp_path: Path) -> None:
    encoder = FakeEncoder("words")
    ended = threading.Event()

    def requests() -> Iterator[encoder_service_pb2.EmbedStreamRequest]:
        batch = encoder_service_pb2.EmbedRequest(inputs=[embedding_pb2.Input(text="a")])
        yield encoder_service_pb2.EmbedStreamRequest(batch=batch)
        ended.wait(30)

    with (
        running_server(tmp_path, [encoder], drain_timeout_s=30) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        encoder.open.clear()
        call = encoder_service_pb2_grpc.EncoderServiceStub(channel).EmbedStream(requests())
        assert encoder.running.wait(10)
        closing = running.begin_close()
        assert [reply.status for reply in watch] == [health_pb2.HealthCheckResponse.NOT_SERVING]
        assert not closing.done()
        encoder.open.set()
        np.testing.assert_array_equal(np.frombuffer(next(call).batch.vectors.data, "<f4"), vector_of("a"))
        with pytest.raises(grpc.RpcError, match="the server is shutting down") as caught:
            next(call)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert closing.result(10)
        ended.set()


def test_a_drain_is_bounded(tmp_path: Path) -> None:
    encoder = FakeEncoder("words")
    with running_server(tmp_path, [encoder], drain_timeout_s=0.2) as running:
        encoder.open.clear()
        with Client(running.address, retries=ONCE) as client, ThreadPoolExecutor(1) as caller:
            stuck = caller.submit(client.embed, ["a"])
            assert encoder.running.wait(10)
            assert running.begin_close().result(20) is False
            with pytest.raises(Exception, match=r".+"):
                stuck.result(10)
            encoder.open.set()


def test_a_second_server_on_the_data_folder_gets_one_clear_error(tmp_path: Path) -> None:
    with running_server(tmp_path, [FakeEncoder("words")]):

        async def second() -> None:
            other = tmp_path / "other"
            other.mkdir()
            server = Server(ServerConfig(bundles=other, data=tmp_path / "data", port=0))
            try:
                await server.listen()
                await server.load()
            finally:
                await server.close()

        with pytest.raises(FailedPrecondition, match=f"the data folder {tmp_path / 'data'} is in use"):
            asyncio.run(second())


def test_a_port_that_is_taken_is_said_to_be(tmp_path: Path) -> None:
    with running_server(tmp_path, [FakeEncoder("words")]) as running:

        async def second() -> None:
            config = ServerConfig(bundles=tmp_path, data=tmp_path / "second", port=running.server.port)
            server = Server(config)
            try:
                await server.listen()
            finally:
                await server.close()

        with pytest.raises(OSError, match=rf"cannot listen on 127.0.0.1:{running.server.port}: the port is taken"):
            asyncio.run(second())


def test_a_missing_bundles_folder_is_named(tmp_path: Path) -> None:
    async def start() -> None:
        server = Server(ServerConfig(bundles=tmp_path / "nowhere", data=tmp_path / "data", port=0))
        try:
            await server.load()
        finally:
            await server.close()

    with pytest.raises(ValueError, match=r"bundles folder '.*nowhere' does not exist"):
        asyncio.run(start())


def test_the_summary_says_what_is_served(tmp_path: Path) -> None:
    with running_server(
        tmp_path, [FakeEncoder("words"), FakeEncoder("broken")], refuse=["broken"], metrics_port=0
    ) as running:
        with Client(running.address) as client:
            client.create_collection("notes", dimension=2)
        assert list(running.server.summary()) == [
            f"diptych serves on {running.address}",
            "  encoder broken: refused (a byte was flipped)",
            "  encoder words@1: text, 8 dimensions, fp32",
            "  collection notes: 0 records",
            f"  metrics on http://127.0.0.1:{running.server.metrics_port}/metrics",
        ]


def test_nothing_heavy_is_loaded_to_serve() -> None:
    code = (
        "import importlib, pkgutil, sys, serving\n"
        "for module in pkgutil.walk_packages(serving.__path__, 'serving.'):\n"
        "    importlib.import_module(module.name)\n"
        "heavy = {'opentelemetry', 'torch', 'torchvision', 'transformers', 'timm', 'pytorch_lightning', 'training'}\n"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

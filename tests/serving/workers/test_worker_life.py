"""What becomes of callers when a process of several dies, stops or cannot do as the others."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import grpc
import numpy as np
import pytest

from diptych.client.sync import Client
from diptych.v1 import (
    collection_service_pb2,
    collection_service_pb2_grpc,
    embedding_pb2,
    encoder_service_pb2,
    encoder_service_pb2_grpc,
)
from models.bundle.manifest import Prompts
from tests.models.bundle.tiny_bundle import make_text_bundle
from tests.serving.workers.fleet_server import (
    WAIT_S,
    FleetServer,
    channels,
    embed,
    fleet_server,
    metrics_of,
    one_channel_each,
    runs,
    wait_until,
)

pytestmark = pytest.mark.slow

Request = TypeVar("Request")


def times_answering(server: FleetServer) -> int:
    return server.log.count("worker answers")


def test_a_worker_that_is_killed_fails_its_own_calls_only_and_is_replaced(tmp_path: Path) -> None:
    with fleet_server(tmp_path) as server, one_channel_each(server) as (owner, worker), ThreadPoolExecutor(1) as caller:
        alone = embed(owner, ["stars"])
        process = server.worker()
        os.kill(process, signal.SIGSTOP)
        stuck = caller.submit(embed, worker, ["stars"])
        time.sleep(0.3)
        assert not stuck.done()
        os.kill(process, signal.SIGKILL)
        error = stuck.exception(WAIT_S)
        assert isinstance(error, grpc.RpcError)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert embed(owner, ["stars"]) == alone
        wait_until(lambda: times_answering(server) == 2, "the worker's return")
        assert "worker ended, another is started failures=1 number=1" in server.log
        assert server.worker() != process
        lines = metrics_of(owner).splitlines()
        assert 'diptych_worker_up{worker="1"} 1.0' in lines
        assert 'diptych_worker_starts_total{worker="1"} 2.0' in lines
        with one_channel_each(server) as (_, returned):
            assert embed(returned, ["stars"]) == alone
        assert server.stop() == 0, server.log


def test_a_drain_ends_streams_through_a_worker_once_what_they_sent_is_answered(tmp_path: Path) -> None:
    ended = threading.Event()
    batch = encoder_service_pb2.EmbedRequest(encoder="words", inputs=[embedding_pb2.Input(text="stars")])
    write = collection_service_pb2.UpsertRecordsRequest(
        collection="notes", records=[collection_service_pb2.RecordWrite(id="a", input=batch.inputs[0])]
    )

    def open_stream(request: Request) -> Iterator[Request]:
        yield request
        ended.wait(WAIT_S)

    with fleet_server(tmp_path) as server, one_channel_each(server) as (_, worker):
        with Client(server.address) as client:
            client.create_collection("notes", encoder="words")
        embedding = encoder_service_pb2_grpc.EncoderServiceStub(worker).EmbedStream(
            open_stream(encoder_service_pb2.EmbedStreamRequest(batch=batch))
        )
        writing = collection_service_pb2_grpc.CollectionServiceStub(worker).UpsertRecordsStream(
            open_stream(collection_service_pb2.UpsertRecordsStreamRequest(batch=write))
        )
        assert next(embedding).batch.vectors.shape[:] == [1, 6]
        assert next(writing).outcome.sequence == 1
        server.process.send_signal(signal.SIGINT)
        for stream in (embedding, writing):
            with pytest.raises(grpc.RpcError, match="the server is shutting down") as caught:
                next(stream)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert server.process.wait(WAIT_S) == 0, server.log
        ended.set()


def test_ctrl_c_in_a_terminal_is_the_owners_alone(tmp_path: Path) -> None:
    with fleet_server(tmp_path) as server:
        process = server.worker()
        os.kill(process, signal.SIGINT)
        time.sleep(0.3)
        assert runs(process)
        os.kill(process, signal.SIGINT)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(WAIT_S) == 0, server.log
        assert times_answering(server) == 1


def test_an_owner_that_is_killed_leaves_no_process_and_no_folder(tmp_path: Path) -> None:
    with fleet_server(tmp_path, workers=3) as server:
        workers = [server.worker(1), server.worker(2)]
        assert all(map(runs, workers))
        server.kill()
        wait_until(lambda: not any(map(runs, workers)), "the workers' end")
        assert [path for path in tmp_path.iterdir() if path.name.startswith("diptych-")] == []


def test_a_bundle_that_changed_under_a_worker_makes_it_forward(tmp_path: Path) -> None:
    with fleet_server(tmp_path) as server:
        bundle = tmp_path / "bundles" / "words"
        with Client(server.address) as client:
            before = client.embed(["stars"], encoder="words").vectors
        shutil.rmtree(bundle)
        make_text_bundle(bundle, name="words", prompts=Prompts(query="query: "))
        os.kill(server.worker(), signal.SIGKILL)
        wait_until(lambda: times_answering(server) == 2, "the worker's return")
        assert "worker forwards what it could embed encoder='words@1' number=1" in server.log
        earlier = server.embedded_by().get("0", 0)
        with channels(server.address, 12) as opened:
            for channel in opened:
                np.testing.assert_array_equal(np.frombuffer(embed(channel, ["stars"]), "<f4"), before[0])
        assert server.embedded_by() == {"0": earlier + 12}
        with Client(server.address) as client:
            client.load_encoder("words")
            assert server.log.count("worker forwards what it could embed") == 1
        with one_channel_each(server):
            pass
        assert server.stop() == 0, server.log


def test_another_server_does_not_take_half_of_the_port(tmp_path: Path) -> None:
    with fleet_server(tmp_path) as server:
        port = server.address.rsplit(":", 1)[1]
        other = tmp_path / "other"
        other.mkdir()
        told = f"cannot listen on 127.0.0.1:{port}: the port is taken"
        with pytest.raises(AssertionError, match=told), fleet_server(other, "--port", port):
            pass

from __future__ import annotations

import asyncio
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from diptych.client.sync import Client
from serving.errors import NotFound
from serving.rpc.draining import Drain
from serving.rpc.health_service import HealthServicer
from tests.serving.fake_encoders import FakeEncoder
from tests.serving.running_server import RunningServer, running_server

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
NO_CONTEXT = cast(Any, None)

EMBEDDING = "diptych.v1.EncoderService"


def check(channel: grpc.Channel, name: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return int(stub.Check(health_pb2.HealthCheckRequest(service=name)).status)


def request(name: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=name)


async def test_every_watcher_of_a_name_hears_of_every_change_also_after_another_left() -> None:
    health = HealthServicer(Drain())
    health.set("a", serving=False)
    first, second = health.Watch(request("a"), NO_CONTEXT), health.Watch(request("a"), NO_CONTEXT)
    assert [(await anext(watch)).status for watch in (first, second)] == [NOT_SERVING, NOT_SERVING]
    await first.aclose()  # type: ignore[attr-defined]  # it is a generator
    following = asyncio.ensure_future(anext(second))
    await asyncio.sleep(0)
    health.set("a", serving=True)
    assert (await asyncio.wait_for(following, 5)).status == SERVING


async def test_a_name_may_be_watched_before_it_is_known_and_after_it_is_gone() -> None:
    health = HealthServicer(Drain())
    watch = health.Watch(request("collection/a"), NO_CONTEXT)
    heard = [(await anext(watch)).status]
    health.set("collection/a", serving=True)
    heard.append((await anext(watch)).status)
    health.forget("collection/a")
    heard.append((await anext(watch)).status)
    assert heard == [UNKNOWN, SERVING, UNKNOWN]


async def test_a_drain_tells_watchers_and_lets_them_go() -> None:
    drain = Drain()
    health = HealthServicer(drain)
    health.set("", serving=True)
    watch = health.Watch(request(""), NO_CONTEXT)
    assert (await anext(watch)).status == SERVING
    drain.begin()
    assert [reply.status async for reply in watch] == [NOT_SERVING]


async def test_an_unknown_name_is_not_found() -> None:
    with pytest.raises(NotFound, match="known as 'nobody'"):
        await HealthServicer(Drain()).Check(request("nobody"), NO_CONTEXT)


def test_a_ready_server_serves_each_name_that_answers(channel: grpc.Channel, client: Client) -> None:
    for name in ["", EMBEDDING, "diptych.v1.SearchService", "diptych.v1.CollectionService", "diptych.v1.AdminService"]:
        assert check(channel, name) == SERVING, name
    assert check(channel, "encoder/words") == SERVING
    assert check(channel, "diptych.v1.JobService") == SERVING
    assert check(channel, "diptych.v1.SnapshotService") == SERVING
    with pytest.raises(grpc.RpcError) as caught:
        check(channel, "collection/notes")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    client.create_collection("notes", dimension=2)
    assert check(channel, "collection/notes") == SERVING
    client.delete_collection("notes")
    with pytest.raises(grpc.RpcError):
        check(channel, "collection/notes")


def test_health_answers_while_an_encoder_blocks(channel: grpc.Channel, client: Client, words: FakeEncoder) -> None:
    words.open.clear()
    try:
        with ThreadPoolExecutor(1) as caller:
            blocked = caller.submit(client.embed, ["a"], encoder="words")
            assert words.running.wait(10)
            assert check(channel, "") == SERVING
            assert not blocked.done()
            words.open.set()
            blocked.result(10)
    finally:
        words.open.set()


def test_nothing_is_said_to_serve_while_it_loads(tmp_path: Path) -> None:
    encoder = FakeEncoder("words")
    with (
        running_server(tmp_path, [encoder], wait=False, hold_loading=True) as running,
        grpc.insecure_channel(running.address) as channel,
        Client(running.address) as client,
        Client(running.address, timeout_s=0.2) as hasty,
    ):
        assert check(channel, "") == NOT_SERVING
        assert check(channel, EMBEDDING) == NOT_SERVING
        assert client.encoder("words").state == "loading"
        with pytest.raises(Exception, match="still loading") as caught:
            hasty.embed(["a"], encoder="words")
        assert getattr(caught.value, "reason", "") == "NOT_READY"
        running.loader.open.set()
        client.wait_until_ready(10)
        assert check(channel, "encoder/words") == SERVING


def test_a_refused_bundle_takes_only_itself_out_of_service(tmp_path: Path) -> None:
    with running_server(tmp_path, [FakeEncoder("words"), FakeEncoder("broken")], refuse=["broken"]) as running:
        with grpc.insecure_channel(running.address) as channel:
            assert [check(channel, name) for name in ("encoder/broken", "encoder/words", EMBEDDING, "")] == [
                NOT_SERVING,
                SERVING,
                SERVING,
                SERVING,
            ]
        with Client(running.address) as client:
            refused = client.encoder("broken")
            assert (refused.state, refused.state_message) == ("refused", "a byte was flipped")
            with pytest.raises(Exception, match="a byte was flipped") as caught:
                client.embed(["a"], encoder="broken")
            assert getattr(caught.value, "reason", "") == "ENCODER_REFUSED"


def test_a_server_with_no_bundle_that_works_does_not_serve(tmp_path: Path) -> None:
    with (
        running_server(tmp_path, [FakeEncoder("broken")], refuse=["broken"]) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        assert [check(channel, name) for name in ("", EMBEDDING)] == [NOT_SERVING, NOT_SERVING]
        assert check(channel, "diptych.v1.SearchService") == SERVING


def test_metrics_count_by_method_and_status(server: RunningServer, client: Client) -> None:
    client.embed(["a"], encoder="words")
    with pytest.raises(Exception, match="nobody"):
        client.embed(["a"], encoder="nobody")
    assert server.server.metrics_port is not None
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server.metrics_port}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    method = 'method="/diptych.v1.EncoderService/Embed"'
    counts = {
        line.split('code="')[1].split('"')[0]: float(line.split()[-1])
        for line in text.splitlines()
        if line.startswith("diptych_rpc_duration_seconds_count") and method in line
    }
    assert counts["OK"] >= 1
    assert counts["NOT_FOUND"] >= 1
    assert f"diptych_rpc_in_flight{{{method}}} 0.0" in text
    assert 'diptych_encoder_serving{encoder="words@1"} 1.0' in text
    assert 'diptych_encoder_batch_items_bucket{encoder="words@1",le="+Inf"}' in text
    items = next(
        line for line in text.splitlines() if line.startswith('diptych_encoder_items_total{encoder="words@1"}')
    )
    assert float(items.split()[-1]) >= 1
    assert 'diptych_encoder_stage_seconds_count{encoder="words@1",stage="prepare"}' in text

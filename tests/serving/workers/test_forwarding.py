"""A call that passes through is the same call: kinds, metadata, statuses, deadlines, cancellation, back-pressure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc import aio
from grpc_status import rpc_status

from diptych.v1 import collection_service_pb2, snapshot_service_pb2
from serving.rpc.draining import Drain, DrainStreams
from serving.rpc.interception import ErrorBoundary
from serving.workers.forwarding import Forwarding

SERVICE = snapshot_service_pb2.DESCRIPTOR.services_by_name["SnapshotService"]  # has three of the four kinds of calls
COLLECTIONS = collection_service_pb2.DESCRIPTOR.services_by_name["CollectionService"]  # has the fourth
WAIT_S = 10.0
STREAM_BOTH = "/diptych.v1.CollectionService/UpsertRecordsStream"


def path(method: str) -> str:
    return f"/diptych.v1.SnapshotService/{method}"


@dataclass
class Owner:
    """Answers every kind of call with what it was sent; notes what it saw."""

    metadata: dict[str, Any] = field(default_factory=dict)
    remaining_s: float | None = None
    read: int = 0
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: bytes, context: Any) -> bytes:
        self.metadata = {key: value for key, value in context.invocation_metadata()}
        self.remaining_s = context.time_remaining()
        await context.send_initial_metadata((("first", "1"),))
        context.set_trailing_metadata((("last-bin", b"\x00\xff"),))
        return request

    async def refuse(self, request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.DATA_LOSS, "gone: ü", (("why", "x"),))
        raise AssertionError("abort raises")

    async def repeat(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(3):
            yield request + b"%d" % number

    async def join(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b" ".join([request async for request in requests])

    async def echo(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        try:
            async for request in requests:
                self.read += 1
                yield request
                if request == b"refuse":
                    await context.abort(grpc.StatusCode.ABORTED, "enough")
                while request.startswith(b"hold"):
                    await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        make: Any = grpc
        snapshots = {
            "GetSnapshot": make.unary_unary_rpc_method_handler(self.answer),
            "DeleteSnapshot": make.unary_unary_rpc_method_handler(self.refuse),
            "DownloadSnapshot": make.unary_stream_rpc_method_handler(self.repeat),
            "UploadSnapshot": make.stream_unary_rpc_method_handler(self.join),
        }
        collections = {"UpsertRecordsStream": make.stream_stream_rpc_method_handler(self.echo)}
        return (
            grpc.method_handlers_generic_handler(SERVICE.full_name, snapshots),
            grpc.method_handlers_generic_handler(COLLECTIONS.full_name, collections),
        )


@asynccontextmanager
async def forwarded(
    folder: Path, owner: Owner | None, *, local: frozenset[str] = frozenset(), drain: Drain | None = None
) -> AsyncIterator[Any]:
    """A channel to a process that forwards to the owner, where there is one."""
    behind = aio.server()
    if owner is not None:
        behind.add_generic_rpc_handlers(owner.handlers())
        behind.add_insecure_port(f"unix:{folder}/owner")
        await behind.start()
    to_owner = aio.insecure_channel(f"unix:{folder}/owner")
    front = aio.server(interceptors=[ErrorBoundary(), DrainStreams(drain or Drain())])
    forwarding = Forwarding((SERVICE, COLLECTIONS), to_owner, is_local=local.__contains__)
    front.add_generic_rpc_handlers((forwarding,))
    port = front.add_insecure_port("127.0.0.1:0")
    await front.start()
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await front.stop(None)
        await to_owner.close()
        await behind.stop(None)


async def test_metadata_deadline_and_bytes_pass_through(tmp_path: Path) -> None:
    owner = Owner()
    async with forwarded(tmp_path, owner) as channel:
        call = channel.unary_unary(path("GetSnapshot"))(
            b"\x00 no message \xff", timeout=7, metadata=(("traceparent", "t"), ("some-bin", b"\x01\x02"))
        )
        assert await call == b"\x00 no message \xff"
        assert (await call.initial_metadata())["first"] == "1"
        assert (await call.trailing_metadata())["last-bin"] == b"\x00\xff"
    assert (owner.metadata["traceparent"], owner.metadata["some-bin"]) == ("t", b"\x01\x02")
    assert owner.remaining_s is not None
    assert 5 < owner.remaining_s < 7.5  # gRPC rounds up on the way


async def test_every_kind_of_call_passes_through(tmp_path: Path) -> None:
    async with forwarded(tmp_path, Owner()) as channel:
        repeated = channel.unary_stream(path("DownloadSnapshot"))(b"n", timeout=WAIT_S)
        assert [reply async for reply in repeated] == [b"n0", b"n1", b"n2"]
        joined = channel.stream_unary(path("UploadSnapshot"))(iter([b"a", b"b"]), timeout=WAIT_S)
        assert await joined == b"a b"
        echoed = channel.stream_stream(STREAM_BOTH)(iter([b"x", b"y"]), timeout=WAIT_S)
        assert [reply async for reply in echoed] == [b"x", b"y"]


async def test_a_status_is_the_owners(tmp_path: Path) -> None:
    async with forwarded(tmp_path, Owner()) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary(path("DeleteSnapshot"))(b"", timeout=WAIT_S)
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.DATA_LOSS, "gone: ü")
        assert caught.value.trailing_metadata()["why"] == "x"
        with pytest.raises(aio.AioRpcError, match="Method not found") as unknown:
            await channel.unary_unary(path("GetNothing"))(b"", timeout=WAIT_S)
        assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_stream_that_the_owner_ends_early_ends_for_its_caller(tmp_path: Path) -> None:
    async def requests() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"refuse"
        await asyncio.sleep(WAIT_S)

    async with forwarded(tmp_path, Owner()) as channel:
        call = channel.stream_stream(STREAM_BOTH)(requests(), timeout=WAIT_S)
        replies = aiter(call)
        assert [await anext(replies), await anext(replies)] == [b"one", b"refuse"]
        with pytest.raises(aio.AioRpcError, match="enough") as caught:
            await anext(replies)
        assert caught.value.code() is grpc.StatusCode.ABORTED


async def test_a_process_that_drains_ends_a_stream_once_the_owner_has_answered_it(tmp_path: Path) -> None:
    drain, ended = Drain(), asyncio.Event()

    async def requests() -> AsyncIterator[bytes]:
        yield b"one"
        await ended.wait()

    async with forwarded(tmp_path, Owner(), drain=drain) as channel:
        call = channel.stream_stream(STREAM_BOTH)(requests(), timeout=WAIT_S)
        replies = aiter(call)
        assert await anext(replies) == b"one"
        drain.begin()
        with pytest.raises(aio.AioRpcError, match="the server is shutting down") as caught:
            await anext(replies)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        ended.set()


async def test_who_leaves_is_not_worked_for(tmp_path: Path) -> None:
    owner = Owner()
    async with forwarded(tmp_path, owner) as channel:
        call = channel.stream_stream(STREAM_BOTH)(timeout=WAIT_S)
        await call.write(b"hold")
        assert await call.read() == b"hold"
        call.cancel()
        await asyncio.wait_for(owner.cancelled.wait(), WAIT_S)


async def test_a_sender_is_held_up_by_the_owner(tmp_path: Path) -> None:
    owner, sent = Owner(), 0
    block = b"hold" + bytes(1 << 20)

    def requests() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(200):
            sent += 1
            yield block

    async with forwarded(tmp_path, owner) as channel:
        call = channel.stream_stream(STREAM_BOTH)(requests(), timeout=WAIT_S)
        await asyncio.sleep(1.0)
        assert owner.read == 1
        assert sent < 40
        call.cancel()


async def test_an_owner_that_is_away_is_said_to_be_at_once(tmp_path: Path) -> None:
    async with forwarded(tmp_path, None) as channel:
        with pytest.raises(aio.AioRpcError, match="cannot be reached just now") as caught:
            await channel.unary_unary(path("GetSnapshot"))(b"", timeout=60)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # has what it reads of a call
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        assert info.reason == "UNAVAILABLE"


async def test_a_local_method_is_left_to_others(tmp_path: Path) -> None:
    async with forwarded(tmp_path, Owner(), local=frozenset({path("GetSnapshot")})) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary(path("GetSnapshot"))(b"", timeout=WAIT_S)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        repeated = channel.unary_stream(path("DownloadSnapshot"))(b"n", timeout=WAIT_S)
        assert [reply async for reply in repeated] == [b"n0", b"n1", b"n2"]

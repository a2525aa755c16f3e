"""Loads a server from a process of its own: `python -m benchmarks.serving.load --server HOST:PORT ITEMS`.

Requests are written out before the clock starts, and replies are not read beyond their size: the machine is the
server's as far as that goes. Closed loop: each client sends its next call when the last is answered. Open loop
(`--rate`): calls begin at random times of that rate whatever becomes of the others, as strangers' do, and a call's time
counts from when it should have begun.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from base64 import b64decode
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import aiohttp
import numpy as np
import tyro
from grpc import aio

from diptych.v1 import embedding_pb2, encoder_service_pb2

__all__ = ["LoadOptions", "main"]

Invoke = Callable[[bytes], Awaitable[str]]
"""Sends a request and returns its status."""

METHOD = "/diptych.v1.EncoderService/Embed"
MAX_MESSAGE_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadOptions:
    """What is sent."""

    items_file: Annotated[Path, tyro.conf.Positional]
    """A JSON list of texts, or of images in base64, which are sent in turn."""
    kind: Literal["text", "image"] = "text"
    """What the list holds."""
    protocol: Literal["grpc", "http"] = "grpc"
    """`diptych.v1`, or OpenAI's embeddings over HTTP."""
    server: str
    """Where to."""
    encoder: str = ""
    """Its name; may be left out where there is one."""
    clients: int = 8
    """Closed loop: calls under way at a time."""
    items: int = 32
    """Texts or images of a call."""
    rate: float = 0.0
    """Open loop: calls a second; 0: closed loop."""
    seconds: float = 8.0
    """How long, after a warm-up of a fifth of it."""


@dataclass(slots=True)
class _Log:
    begin_s: float
    durations_s: list[float] = field(default_factory=list)
    refusals_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def note(self, since_s: float, code: str) -> None:
        now_s = time.perf_counter()
        if now_s < self.begin_s:
            return
        if code == "OK":
            self.durations_s.append(now_s - since_s)
        elif code == "RESOURCE_EXHAUSTED":
            self.refusals_s.append(now_s - since_s)
        else:
            self.errors[code] += 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Loads the server and prints one line of JSON."""
    options = tyro.cli(LoadOptions, args=arguments, description=__doc__)
    items: list[str] = json.loads(options.items_file.read_text(encoding="utf-8"))
    starts = range(0, len(items) - options.items + 1, options.items)
    requests = [_request(items[start : start + options.items], options) for start in starts]
    json.dump(asyncio.run(_load(options, requests)), sys.stdout)
    print()


def _request(items: Sequence[str], options: LoadOptions) -> bytes:
    if options.protocol == "http":
        return json.dumps({"input": list(items), "model": options.encoder or "model"}).encode()
    inputs = [
        embedding_pb2.Input(text=item) if options.kind == "text" else embedding_pb2.Input(image=b64decode(item))
        for item in items
    ]
    return encoder_service_pb2.EmbedRequest(encoder=options.encoder, inputs=inputs).SerializeToString()


async def _load(options: LoadOptions, requests: Sequence[bytes]) -> dict[str, Any]:
    turn = itertools.cycle(requests).__next__
    async with _grpc(options) if options.protocol == "grpc" else _http(options) as invoke:
        log = _Log(time.perf_counter() + options.seconds / 5)
        end_s = log.begin_s + options.seconds

        async def call(since_s: float) -> None:
            log.note(since_s, await invoke(turn()))

        await (_open(call, options.rate, end_s) if options.rate else _closed(call, options.clients, end_s))
    return _summary(log, options)


@asynccontextmanager
async def _grpc(options: LoadOptions) -> AsyncIterator[Invoke]:
    limits = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
    async with aio.insecure_channel(options.server, options=limits) as channel:
        await channel.channel_ready()
        method: Any = channel.unary_unary(METHOD)

        async def invoke(request: bytes) -> str:
            try:
                await method(request)
            except aio.AioRpcError as error:
                return str(error.code().name)
            return "OK"

        yield invoke


@asynccontextmanager
async def _http(options: LoadOptions) -> AsyncIterator[Invoke]:
    headers = {"content-type": "application/json"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def invoke(request: bytes) -> str:
            async with session.post(f"http://{options.server}/embeddings", data=request) as reply:
                await reply.read()
                return {200: "OK", 429: "RESOURCE_EXHAUSTED"}.get(reply.status, str(reply.status))

        yield invoke


async def _closed(call: Callable[[float], Any], clients: int, end_s: float) -> None:
    async def client() -> None:
        while time.perf_counter() < end_s:
            await call(time.perf_counter())

    await asyncio.gather(*(client() for _ in range(clients)))


async def _open(call: Callable[[float], Any], rate: float, end_s: float) -> None:
    draw = random.Random(0)
    due_s, running = time.perf_counter(), set[asyncio.Task[None]]()
    while due_s < end_s:
        due_s += draw.expovariate(rate)
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        task = asyncio.create_task(call(due_s))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)


def _summary(log: _Log, options: LoadOptions) -> dict[str, Any]:
    def percentile(values: Sequence[float], share: float) -> float | None:
        return float(np.percentile(values, share)) * 1e3 if values else None

    return {
        "items_per_s": len(log.durations_s) * options.items / options.seconds,
        "calls_per_s": len(log.durations_s) / options.seconds,
        "p50_ms": percentile(log.durations_s, 50),
        "p99_ms": percentile(log.durations_s, 99),
        "refused_per_s": len(log.refusals_s) / options.seconds,
        "refused_p50_ms": percentile(log.refusals_s, 50),
        "refused_p99_ms": percentile(log.refusals_s, 99),
        "errors": dict(log.errors),
    }


if __name__ == "__main__":
    main()

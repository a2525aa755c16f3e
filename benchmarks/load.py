"""Loads a server's `Embed` with texts, from a process of its own: `python -m benchmarks.load --server HOST:PORT TEXTS`.

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
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import grpc
import numpy as np
import tyro
from grpc import aio

from diptych.v1 import embedding_pb2, encoder_service_pb2

__all__ = ["LoadOptions", "main"]

METHOD = "/diptych.v1.EncoderService/Embed"
MAX_MESSAGE_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadOptions:
    """What is sent."""

    texts: Annotated[Path, tyro.conf.Positional]
    """A JSON list of texts, which are sent in turn."""
    server: str
    """Where to."""
    encoder: str = ""
    """Its name; may be left out where there is one."""
    clients: int = 8
    """Closed loop: calls under way at a time."""
    items: int = 32
    """Texts of a call."""
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

    def note(self, since_s: float, code: grpc.StatusCode) -> None:
        now_s = time.perf_counter()
        if now_s < self.begin_s:
            return
        if code is grpc.StatusCode.OK:
            self.durations_s.append(now_s - since_s)
        elif code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            self.refusals_s.append(now_s - since_s)
        else:
            self.errors[code.name] += 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Loads the server and prints one line of JSON."""
    options = tyro.cli(LoadOptions, args=arguments, description=__doc__)
    texts: list[str] = json.loads(options.texts.read_text(encoding="utf-8"))
    json.dump(asyncio.run(_load(options, _requests(texts, options))), sys.stdout)
    print()


def _requests(texts: Sequence[str], options: LoadOptions) -> list[bytes]:
    found = []
    for start in range(0, len(texts) - options.items + 1, options.items):
        inputs = [embedding_pb2.Input(text=text) for text in texts[start : start + options.items]]
        request = encoder_service_pb2.EmbedRequest(encoder=options.encoder, inputs=inputs)
        found.append(request.SerializeToString())
    return found


async def _load(options: LoadOptions, requests: Sequence[bytes]) -> dict[str, Any]:
    warm_up_s = options.seconds / 5
    channel_options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
    async with aio.insecure_channel(options.server, options=channel_options) as channel:
        await channel.channel_ready()
        invoke: Any = channel.unary_unary(METHOD)
        log = _Log(time.perf_counter() + warm_up_s)
        end_s = log.begin_s + options.seconds
        turn = itertools.cycle(requests).__next__

        async def call(since_s: float) -> None:
            try:
                await invoke(turn())
            except aio.AioRpcError as error:
                log.note(since_s, error.code())
            else:
                log.note(since_s, grpc.StatusCode.OK)

        await (_open(call, options.rate, end_s) if options.rate else _closed(call, options.clients, end_s))
    return _summary(log, options)


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
        "refused_p99_ms": percentile(log.refusals_s, 99),
        "errors": dict(log.errors),
    }


if __name__ == "__main__":
    main()

"""A worker's own server: embeds, forwards the rest, and keeps step with the owner's encoders."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import grpc
from grpc import aio
from prometheus_client import generate_latest

from serving.backend import Backend
from serving.config import MAX_MESSAGE_BYTES, ServerConfig
from serving.encoders.lifecycle import EncoderLifecycle
from serving.encoders.loading import BundleFolder
from serving.encoders.pool import EncoderPool
from serving.encoders.state import EncoderPhase, EncoderState
from serving.errors import ServingError
from serving.rpc.assembly import (
    HEALTH,
    add_encoding,
    add_reflection,
    every_service,
    guarding,
    server_options,
    service_names,
    watching,
)
from serving.rpc.draining import Drain
from serving.rpc.encoder_metrics import EncoderMetrics
from serving.rpc.metrics import CallMetrics
from serving.rpc.tracing import Tracing
from serving.workers.control import SERVICE, Step, StepOutcome, description
from serving.workers.forwarding import Forwarding
from serving.workers.settings import WorkerSettings

__all__ = ["WorkerServer"]

logger = logging.getLogger(__name__)

HANG_UP_S = 1.0
"""Longest wait for replies that are on their way when nothing is left to do."""
EMBEDDING_SERVICES = frozenset(service_names()["encoders"])
"""What a worker answers itself while it holds the owner's encoders."""
CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),
    # The owner's socket is there or the owner is dead: callers shall hear at once, and repeat themselves.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class WorkerServer:
    """One worker, on the running event loop.

    It listens on its port from the first step on, so that whoever reaches it gets answers.

    Args:
        settings: Its own.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._config = ServerConfig(
            bundles=settings.bundles, tei_encoder=settings.tei_encoder, runtime=settings.runtime
        )
        self._pool = EncoderPool(settings.runtime)
        self._roster = self._pool.roster
        self._lifecycle = EncoderLifecycle(self._pool, BundleFolder(settings.bundles, settings.runtime))
        # Its collections are never opened: they are the owner's.
        self._backend = Backend(
            self._pool, self._lifecycle, self._config.data, self._config.collections, read_threads=1, write_threads=1
        )
        self._channel = aio.insecure_channel(f"unix:{settings.owner_socket}", options=CHANNEL_OPTIONS)
        self._in_step = False
        self._stepping = asyncio.Lock()
        self._listening = False
        self._drain = Drain()
        self._metrics = CallMetrics()
        self._metrics.registry.register(EncoderMetrics(self._pool))
        self._tracing = Tracing(settings.tracing) if settings.tracing.traces_endpoint else None
        self._public = self._build_public()
        self._control = aio.server()
        self._control.add_generic_rpc_handlers((self._control_handlers(),))

    async def listen(self) -> None:
        """Answers the owner, who tells what to load."""
        self._control.add_insecure_port(f"unix:{self._settings.control_socket}")
        await self._control.start()

    async def keep_step(self, wanted: Step) -> StepOutcome:
        """Loads and unloads until it holds what the owner holds.

        Where that cannot be, it forwards every call: two processes of one server never answer differently.

        Args:
            wanted: Where the owner stands.

        Returns:
            What is different still.
        """
        async with self._stepping:
            failures = await self._approach(wanted)
            running = {name: description(one.encoder.info) for name, one in self._roster.running().items()}
            names = running.keys() | wanted.encoders.keys()
            apart = {
                name: failures.get(name, "its bundle holds another encoder now than the one that serves")
                for name in sorted(names)
                if name not in running or name not in wanted.encoders or running[name] != wanted.encoders[name].encoder
            }
            self._follow_states(wanted)
            self._in_step = not apart
            await self._listen_publicly()
            return StepOutcome(apart=apart)

    async def close(self) -> bool:
        """Stops: takes nothing new, and finishes what was accepted.

        Returns:
            Whether everything accepted was finished within the drain timeout.
        """
        timeout_s = self._settings.drain_timeout_s
        deadline_s = time.monotonic() + timeout_s
        self._drain.begin()
        answered = await self._drain.wait_idle(timeout_s)
        await self._public.stop(HANG_UP_S if answered else None)
        await self._control.stop(HANG_UP_S)
        await self._channel.close()
        finished = await self._backend.close(drain_s=max(deadline_s - time.monotonic(), 0.0))
        if self._tracing is not None:
            await self._tracing.close(max(deadline_s - time.monotonic(), 0.0))
        return answered and finished

    def _build_public(self) -> aio.Server:
        services = (*every_service(), HEALTH)
        forwarding = Forwarding(services, self._channel, is_local=self._is_local)
        watchers = watching(self._metrics, self._settings.logs, self._tracing)
        interceptors = [*(_OwnCalls(watcher, forwarding) for watcher in watchers), *guarding(self._drain)]
        server = aio.server(interceptors=interceptors, options=server_options(share_port=True))
        server.add_generic_rpc_handlers((forwarding,))
        add_encoding(cast(aio.Server, _AfterForwarding(server)), self._backend, self._config)
        add_reflection(server)
        return server

    def _is_local(self, method: str) -> bool:
        return self._in_step and method.strip("/").split("/")[0] in EMBEDDING_SERVICES

    async def _listen_publicly(self) -> None:
        if self._listening:
            return
        self._public.add_insecure_port(f"{self._settings.host}:{self._settings.port}")
        await self._public.start()
        self._listening = True

    async def _approach(self, wanted: Step) -> dict[str, str]:
        """Returns why encoders could not be loaded, by their references."""
        failures: dict[str, str] = {}
        # First what frees memory: bundles that the owner has no more. One that holds another version now is swapped.
        folders = {one.folder for one in wanted.encoders.values()}
        for name, held in self._roster.running().items():
            if held.folder not in folders:
                await self._lifecycle.unload(name)
        for name, one in wanted.encoders.items():
            running = self._roster.running().get(name)
            if running is not None and description(running.encoder.info) == one.encoder:
                continue
            try:
                await self._lifecycle.load(one.folder)
            except (ServingError, ValueError) as error:
                failures[name] = str(error)
        for name in self._roster.running().keys() - wanted.encoders.keys():
            await self._lifecycle.unload(name)
        return failures

    def _follow_states(self, wanted: Step) -> None:
        """Takes over the names of what does not serve, so that errors and lists are the owner's."""
        self._roster.is_loading = False
        self._roster.aliases = wanted.aliases
        running = self._roster.running()
        for name in self._roster.states().keys() - running.keys() - wanted.states.keys():
            self._roster.forget(name)
        for name, (phase, detail) in wanted.states.items():
            if name not in running:
                self._roster.set_state(name, EncoderState(EncoderPhase(phase), detail))

    def _control_handlers(self) -> grpc.GenericRpcHandler:
        async def keep_step(message: bytes, _context: Any) -> bytes:
            return (await self.keep_step(Step.from_bytes(message))).to_bytes()

        async def metrics(_message: bytes, _context: Any) -> bytes:
            return await asyncio.to_thread(generate_latest, self._metrics.registry)

        # The types of these handlers know no coroutine functions.
        methods: dict[str, Any] = {"KeepStep": keep_step, "GetMetrics": metrics}
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)


class _AfterForwarding:
    """Takes a service's handlers as ones that are asked in turn; registered ones would be found before `Forwarding`."""

    def __init__(self, server: aio.Server) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Leaves them out."""


class _OwnCalls(aio.ServerInterceptor):
    """Watches the calls that are answered here; the owner watches those that it answers."""

    def __init__(self, watcher: aio.ServerInterceptor, forwarding: Forwarding) -> None:
        self._watcher = watcher
        self._forwarding = forwarding

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Hands a call to the watcher, or past it."""
        if self._forwarding.takes(str(handler_call_details.method)):
            return await continuation(handler_call_details)
        return await self._watcher.intercept_service(continuation, handler_call_details)

"""One server from start to stop: listens, loads, serves, drains."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from serving.backend import Backend
from serving.config import ServerConfig
from serving.encoders.lifecycle import EncoderLifecycle
from serving.encoders.loading import BundleFolder
from serving.encoders.pool import EncoderPool
from serving.encoders.state import EncoderPhase
from serving.logs import log_unhandled
from serving.readiness import Readiness
from serving.rpc.assembly import build_wire
from serving.rpc.metrics import MetricsEndpoint
from serving.rpc.tracing import Tracing
from serving.workers.fleet import Fleet
from serving.workers.settings import share_of_cores
from serving.workers.sockets import check_port_is_free

__all__ = ["Server", "serve"]

logger = logging.getLogger(__name__)

HANG_UP_S = 1.0
"""Longest wait for replies that are on their way when nothing is left to do."""


class Server:
    """A server in this process, on the running event loop; where there are to be workers, it is their owner.

    Args:
        config: How it is set up.
        bundles: Where encoders come from; the configuration's folder where None.
    """

    def __init__(self, config: ServerConfig, *, bundles: BundleFolder | None = None) -> None:
        config = share_of_cores(config)
        self._config = config
        self._tracing = Tracing(config.tracing) if config.tracing.traces_endpoint else None
        self._pool = EncoderPool(config.runtime)
        self._fleet = Fleet(config, self._pool) if config.workers > 1 else None
        self._lifecycle = EncoderLifecycle(
            self._pool,
            bundles or BundleFolder(config.bundles, config.runtime, processes=config.workers),
            after_change=self._fleet.keep_step if self._fleet else None,
        )
        self._watching: asyncio.Task[None] | None = None
        self._backend = Backend(
            self._pool,
            self._lifecycle,
            config.data,
            config.collections,
            read_threads=config.read_threads,
            write_threads=config.write_threads,
            jobs=config.jobs,
        )
        merge = {"merge": self._fleet.merge} if self._fleet else {}
        self._wire = build_wire(self._backend, config, self._tracing, **merge)
        self._readiness = Readiness(self._wire, self._backend)
        self._metrics_endpoint: MetricsEndpoint | None = None
        self.port = 0
        """The bound port, once it listens."""

    @property
    def address(self) -> str:
        """`host:port` as a client on this machine may use it, once it listens."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "[::]": "[::1]"}.get(self._config.host, self._config.host)
        return f"{host}:{self.port}"

    @property
    def metrics_port(self) -> int | None:
        """The bound port of the metrics; None where there are none."""
        return self._metrics_endpoint.port if self._metrics_endpoint else None

    async def listen(self) -> None:
        """Binds the ports and answers calls; health says NOT_SERVING until `load` is done.

        Raises:
            OSError: An address is taken or is none of this machine's.
        """
        wanted = f"{self._config.host}:{self._config.port}"
        try:
            if self._fleet is not None:
                # A port that may be shared would be taken even where another server listens.
                check_port_is_free(self._config.host, self._config.port)
            self.port = self._wire.server.add_insecure_port(wanted)
        except (RuntimeError, OSError) as error:
            raise OSError(
                f"cannot listen on {wanted}: the port is taken, or the address is not this machine's"
            ) from error
        if self._fleet is not None:
            self._wire.server.add_insecure_port(self._fleet.prepare())
        if self._config.metrics_port is not None:
            self._metrics_endpoint = MetricsEndpoint(
                self._wire.shown, host=self._config.host, port=self._config.metrics_port
            )
        await self._wire.server.start()
        logger.info("server listening", extra={"address": self.address})
        if self._fleet is not None:
            self._fleet.start(self.port)

    async def load(self) -> None:
        """Opens the collections and loads the encoders, side by side; then health says SERVING.

        Raises:
            FailedPrecondition: Another server holds the data folder.
            ValueError: The bundles folder does not exist.
        """
        outcomes = await asyncio.gather(self._load_collections(), self._load_encoders(), return_exceptions=True)
        # Both have ended before either's failure is told: what was opened can then be closed.
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        if self._fleet is not None:
            await self._fleet.owner_is_loaded()
        serving = {"encoders": len(self._pool.roster.infos()), "collections": len(self._backend.catalogue.list())}
        logger.info("server ready", extra=serving)

    async def close(self) -> bool:
        """Stops: takes nothing new, finishes what was accepted, flushes.

        Returns:
            Whether everything accepted was finished within the drain timeout.
        """
        deadline_s = time.monotonic() + self._config.drain_timeout_s
        logger.info("server draining", extra={"timeout_s": self._config.drain_timeout_s})
        if self._watching is not None:
            self._watching.cancel()
        if self._fleet is not None:
            self._fleet.stop()
        self._wire.drain.begin()
        answered = await self._wire.drain.wait_idle(self._config.drain_timeout_s)
        if self._fleet is not None:
            # Before this process stops: the workers' callers may still be told of its drain.
            answered = await self._fleet.finish(max(deadline_s - time.monotonic(), 0.0)) and answered
        # Callers have been refused with UNAVAILABLE until here; from here on gRPC itself would say CANCELLED.
        await self._wire.server.stop(HANG_UP_S if answered else None)
        finished = await self._backend.close(drain_s=max(deadline_s - time.monotonic(), 0.0))
        if self._metrics_endpoint is not None:
            await asyncio.to_thread(self._metrics_endpoint.close)
        if self._tracing is not None:
            await self._tracing.close(max(deadline_s - time.monotonic(), 0.0))
        logger.info("server stopped", extra={"finished": answered and finished})
        return answered and finished

    def summary(self) -> Sequence[str]:
        """Returns a few lines on what is served, for people."""
        lines = [f"diptych serves on {self.address}"]
        roster = self._pool.roster
        infos = {info.reference: info for info in roster.infos()}
        for name, state in sorted(roster.states().items()):
            if name in infos and state.phase is EncoderPhase.SERVING:
                info = infos[name]
                lines.append(f"  encoder {name}: {info.modality}, {info.dimension} dimensions, {info.precision}")
            else:
                lines.append(f"  encoder {name}: {state.phase}{f' ({state.detail})' if state.detail else ''}")
        lines.extend(
            f"  collection {collection.spec.name}: {collection.record_count} records"
            for collection in self._backend.catalogue.list()
        )
        lines.extend(self._fleet.summary() if self._fleet else ())
        if self.metrics_port is not None:
            lines.append(f"  metrics on http://{self._config.host}:{self.metrics_port}/metrics")
        return lines

    async def _load_collections(self) -> None:
        self._readiness.on_collections_open(await self._backend.open_collections())

    async def _load_encoders(self) -> None:
        await self._lifecycle.start()
        self._readiness.on_encoders_loaded()
        if self._config.watch_s:
            self._watching = asyncio.create_task(self._lifecycle.watch(self._config.watch_s))


async def serve(
    config: ServerConfig, *, announce: Callable[[str], None], make_server: Callable[[ServerConfig], Server] = Server
) -> int:
    """Runs a server until SIGTERM or SIGINT.

    Args:
        config: How it is set up.
        announce: Gets lines for people.
        make_server: Builds it; tests give encoders of their own.

    Returns:
        0: it stopped as asked, everything accepted was finished; 1: some of it was not.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_unhandled)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = make_server(config)
    start_s = time.monotonic()
    try:
        await server.listen()
        announce(f"listening on {server.address}, loading ...")
        if await _load_unless_stopped(server, stop):
            for line in server.summary():
                announce(line)
            announce(f"ready after {time.monotonic() - start_s:.1f} s; stop with Ctrl-C")
            await stop.wait()
    except BaseException:
        await server.close()
        raise
    # From here on a second Ctrl-C ends the process at once.
    loop.remove_signal_handler(signal.SIGINT)
    announce(f"stopping: finishing what was accepted, at most {config.drain_timeout_s:g} s ...")
    finished = await server.close()
    announce("stopped" if finished else "stopped; the drain timeout cut off some calls")
    return 0 if finished else 1


async def _load_unless_stopped(server: Server, stop: asyncio.Event) -> bool:
    """Loads, and returns whether that ended before someone asked the server to stop."""
    loading = asyncio.create_task(server.load())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        loading.cancel()
        with suppress(asyncio.CancelledError):
            await loading
        return False
    stopping.cancel()
    loading.result()
    return True

"""All workers of a server: started, kept in step with the owner's encoders, replaced when they die, drained."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from prometheus_client import CollectorRegistry

from serving.config import ServerConfig
from serving.encoders.pool import EncoderPool
from serving.workers.control import wanted_of
from serving.workers.metrics import FleetMetrics
from serving.workers.process import WorkerGone, WorkerProcess
from serving.workers.settings import WorkerSettings
from serving.workers.sockets import SocketFolder

__all__ = ["Fleet"]

logger = logging.getLogger(__name__)

Start = Callable[[WorkerSettings], Awaitable[WorkerProcess]]

FIRST_PAUSE_S = 0.5
"""Pause before a worker is started again; doubled with each failure in a row."""
LONGEST_PAUSE_S = 60.0
STEADY_S = 60.0
"""Who lived longer did not fail in a row with those before."""
MANY_FAILURES = 5
"""Failures in a row from which the log calls for help."""
LEAVE_S = 3.0
"""Time beyond the drain timeout in which a worker ends."""


class Fleet:
    """The workers 1 to `workers - 1` of one owner, which is number 0.

    All of it runs on the event loop.

    Args:
        config: How the server is set up; each process's threads included.
        pool: The owner's encoders.
        start: Starts a worker; tests give another.
    """

    def __init__(self, config: ServerConfig, pool: EncoderPool, *, start: Start = WorkerProcess.start) -> None:
        self._config = config
        self._pool = pool
        self._start = start
        self._numbers = range(1, config.workers)
        self._sockets: SocketFolder | None = None
        self._port = 0
        self._workers: dict[int, WorkerProcess] = {}
        self._start_counts = dict.fromkeys(self._numbers, 0)
        self._tried = {number: asyncio.Event() for number in self._numbers}
        self._owner_loaded = asyncio.Event()
        self._stopping = asyncio.Event()
        self._all_finished = True
        self._tasks: list[asyncio.Task[None]] = []
        self._metrics: FleetMetrics | None = None

    def prepare(self) -> str:
        """Makes the folder of the sockets.

        Returns:
            The address on which the owner shall answer the workers.

        Raises:
            OSError: It cannot be made.
        """
        self._sockets = SocketFolder()
        return f"unix:{self._sockets.owner}"

    def merge(self, own: CollectorRegistry) -> CollectorRegistry:
        """Returns the metrics of all processes.

        Args:
            own: Those of the owner.

        Returns:
            A registry that asks the workers.
        """
        self._metrics = FleetMetrics(own, self)
        registry = CollectorRegistry()
        registry.register(self._metrics)
        return registry

    def start(self, port: int) -> None:
        """Starts the workers; they load nothing before `owner_is_loaded`.

        Args:
            port: The owner's.
        """
        self._port = port
        if self._metrics is not None:
            self._metrics.loop = asyncio.get_running_loop()
        self._tasks = [asyncio.create_task(self._keep_alive(number)) for number in self._numbers]

    async def owner_is_loaded(self) -> None:
        """Lets the workers load what the owner has loaded, and waits until each answers or has failed once."""
        self._owner_loaded.set()
        for tried in self._tried.values():
            await tried.wait()

    async def keep_step(self) -> None:
        """Returns once each worker that answers holds what the owner holds, or forwards its calls, or was ended."""
        await asyncio.gather(*(self._step(worker) for worker in list(self._workers.values()) if worker.answers))

    async def expositions(self) -> Mapping[int, bytes]:
        """Returns the metrics of those workers that tell them, by number."""

        async def ask(worker: WorkerProcess) -> bytes | None:
            with suppress(WorkerGone):
                return await worker.metrics()
            return None

        asked = {number: worker for number, worker in sorted(self._workers.items()) if worker.answers}
        told = await asyncio.gather(*map(ask, asked.values()))
        return {number: text for number, text in zip(asked, told, strict=True) if text is not None}

    def up(self) -> Mapping[int, bool]:
        """Returns which workers answer."""
        return {number: number in self._workers and self._workers[number].answers for number in self._numbers}

    def start_counts(self) -> Mapping[int, int]:
        """Returns how many times each worker was started."""
        return dict(self._start_counts)

    def summary(self) -> Sequence[str]:
        """Returns a line on each worker, for people."""
        return [
            f"  worker {number}: process {self._workers[number].pid}" if up else f"  worker {number}: does not answer"
            for number, up in self.up().items()
        ]

    def stop(self) -> None:
        """Asks every worker to finish what it accepted, and starts none any more."""
        self._stopping.set()
        for worker in self._workers.values():
            worker.terminate()

    async def finish(self, timeout_s: float) -> bool:
        """Waits for the workers' end after `stop`, and ends those that take too long.

        Args:
            timeout_s: What is left of the time to drain.

        Returns:
            Whether all of them finished what they had accepted.
        """
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s + LEAVE_S)
            for worker in self._workers.values():
                worker.kill()
            await asyncio.gather(*self._tasks)
        if self._sockets is not None:
            self._sockets.remove()
        return self._all_finished

    async def _keep_alive(self, number: int) -> None:
        """Starts a worker, and another each time it ends, until the fleet stops."""
        loop = asyncio.get_running_loop()
        failures = 0
        while not self._stopping.is_set():
            began_s = loop.time()
            problem = await self._live(number)
            self._tried[number].set()
            if self._stopping.is_set():
                return
            failures = 1 if loop.time() - began_s > STEADY_S else failures + 1
            pause_s = min(FIRST_PAUSE_S * 2 ** (failures - 1), LONGEST_PAUSE_S)
            told = {"number": number, "problem": problem, "failures": failures, "pause_s": pause_s}
            if failures < MANY_FAILURES:
                logger.warning("worker ended, another is started", extra=told)
            else:
                logger.error("worker keeps failing", extra=told)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)

    async def _live(self, number: int) -> str:
        """Lets a worker live, and returns why it ended."""
        self._start_counts[number] += 1
        try:
            worker = await self._start(self._settings(number))
        except OSError as error:
            return str(error)
        self._workers[number] = worker
        ended = asyncio.create_task(worker.wait())
        if self._stopping.is_set():
            worker.terminate()
        entered = asyncio.create_task(self._enter(worker))
        try:
            await asyncio.wait({ended, entered}, return_when=asyncio.FIRST_COMPLETED)
            code = await ended
        finally:
            entered.cancel()
            del self._workers[number]
            await worker.close()
        if worker.answers and code != 0:
            self._all_finished = self._all_finished and not self._stopping.is_set()
        return f"exit code {code}"

    async def _enter(self, worker: WorkerProcess) -> None:
        """Brings a new worker to where the owner stands; from then on it answers."""
        await self._owner_loaded.wait()
        await self._step(worker, wait=True)
        self._tried[worker.number].set()

    async def _step(self, worker: WorkerProcess, *, wait: bool = False) -> None:
        try:
            outcome = await worker.keep_step(wanted_of(self._pool), wait=wait)
        except WorkerGone as error:
            # It died, hangs or cannot listen; one that is in no known state must answer nobody.
            logger.warning("worker does not follow", extra={"number": worker.number, "detail": str(error)})
            worker.kill()
            return
        for encoder, why in outcome.apart.items():
            logger.warning(
                "worker forwards what it could embed", extra={"number": worker.number, "encoder": encoder, "why": why}
            )
        logger.info("worker answers", extra={"number": worker.number, "pid": worker.pid})

    def _settings(self, number: int) -> WorkerSettings:
        assert self._sockets is not None, "prepare() comes before start()"
        config = self._config
        return WorkerSettings(
            number=number,
            owner_socket=self._sockets.owner,
            control_socket=self._sockets.worker(number, self._start_counts[number]),
            host=config.host,
            port=self._port,
            bundles=config.bundles,
            tei_encoder=config.tei_encoder,
            drain_timeout_s=config.drain_timeout_s,
            runtime=config.runtime,
            logs=config.logs,
            tracing=config.tracing,
        )

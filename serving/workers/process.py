"""One worker process as the owner sees it, from its start to its end."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from typing import Any

from grpc import aio

from serving.config import MAX_MESSAGE_BYTES
from serving.workers.control import KEEP_STEP, METRICS, Step, StepOutcome
from serving.workers.settings import WorkerSettings

__all__ = ["WorkerGone", "WorkerProcess"]

STEP_S = 300.0
"""Longest time in which a worker loads what the owner has loaded; then it hangs, and another takes its place."""
METRICS_S = 2.0
CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),
    # The worker's socket appears a moment after the process.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)


class WorkerGone(Exception):  # noqa: N818 - says what happened, as all of this tree's errors do
    """A worker died, was ended, hangs, or failed at what it was asked."""


class WorkerProcess:
    """A worker that was started; `start` makes one.

    Args:
        process: The process.
        settings: What it was told.
    """

    def __init__(self, process: Process, settings: WorkerSettings) -> None:
        self._process = process
        self._channel = aio.insecure_channel(f"unix:{settings.control_socket}", options=CHANNEL_OPTIONS)
        self._stepping = asyncio.Lock()
        self._closed = False
        self.number = settings.number
        """From 1 on."""
        self.answers = False
        """Whether it listens on the port."""

    @classmethod
    async def start(cls, settings: WorkerSettings) -> WorkerProcess:
        """Starts a worker: a new interpreter, never a copy of this process with its threads and locks.

        Args:
            settings: What it is told.

        Returns:
            The worker; it does not answer yet.

        Raises:
            OSError: No process can be started.
        """
        # The worker finds modules where this process does, and never by chance in the folder it runs in.
        paths = [os.path.abspath(path) for path in sys.path if os.pathsep not in path]  # noqa: PTH100 - also for ""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        command = (sys.executable, "-P", "-m", "serving.workers.worker")
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=DEVNULL, env=environment)
        assert process.stdin is not None
        # Left open: its end tells the worker that this process has ended, however it did.
        process.stdin.write(settings.to_line())
        return cls(process, settings)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    async def keep_step(self, wanted: Step, *, wait: bool = False) -> StepOutcome:
        """Makes the worker hold what the owner holds.

        Args:
            wanted: Where the owner stands.
            wait: Whether the worker may still be starting.

        Returns:
            In what it differs.

        Raises:
            WorkerGone: It did not; it is in no known state.
        """
        async with self._stepping:
            outcome = StepOutcome.from_bytes(await self._ask(KEEP_STEP, wanted.to_bytes(), STEP_S, wait=wait))
            self.answers = True
            return outcome

    async def metrics(self) -> bytes:
        """Asks for its metrics.

        Returns:
            Prometheus's text format.

        Raises:
            WorkerGone: It did not tell them in `METRICS_S`.
        """
        return await self._ask(METRICS, b"", METRICS_S)

    async def _ask(self, method: str, message: bytes, timeout_s: float, *, wait: bool = False) -> bytes:
        if self._closed:
            raise WorkerGone("it has ended")
        call: Any = self._channel.unary_unary(method)
        try:
            reply: bytes = await call(message, timeout=timeout_s, wait_for_ready=wait)
        except aio.AioRpcError as error:
            raise WorkerGone(error.details() or error.code().name) from error
        except asyncio.CancelledError:
            # So ends a call whose channel was closed; the caller's own task need not have been cancelled.
            if self._closed:
                raise WorkerGone("it has ended") from None
            raise
        return reply

    async def wait(self) -> int:
        """Returns the exit code once it has ended; minus the signal's number where a signal ended it."""
        return await self._process.wait()

    def terminate(self) -> None:
        """Asks it to finish what it accepted and to end."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """Ends it at once."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def close(self) -> None:
        """Ends it and lets go of it."""
        self.kill()
        self._closed = True
        await self._process.wait()
        await self._channel.close()

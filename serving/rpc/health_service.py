"""grpc.health.v1: tells the truth about each service, encoder and collection, to as many watchers as come.

The reference servicer for asyncio loses all watchers of a name when one of them leaves; hence our own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.errors import NotFound
from serving.rpc.draining import Drain

__all__ = ["HealthServicer"]

Context = aio.ServicerContext[Any, Any]


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Keeps a status per name and wakes those who watch it.

    All of it runs on the event loop.

    Args:
        drain: When it begins, every status is NOT_SERVING, and watchers hear of it and are let go.
    """

    def __init__(self, drain: Drain) -> None:
        self._drain = drain
        self._statuses: dict[str, int] = {}
        self._changed = asyncio.Event()

    def set(self, name: str, *, serving: bool) -> None:
        """Sets the status of a name.

        Args:
            name: Empty for the server as a whole, a gRPC service, `encoder/NAME` or `collection/NAME`.
            serving: Whether it answers.
        """
        response = health_pb2.HealthCheckResponse
        self._statuses[name] = response.SERVING if serving else response.NOT_SERVING
        self._wake()

    def forget(self, name: str) -> None:
        """Drops a name that is no more; watchers hear SERVICE_UNKNOWN.

        Args:
            name: As in `set`.
        """
        self._statuses.pop(name, None)
        self._wake()

    def status(self, name: str) -> int | None:
        """Returns the status of a name, or None where it is unknown.

        Args:
            name: As in `set`.

        Returns:
            NOT_SERVING for every known name once the drain has begun.
        """
        if name not in self._statuses:
            return None
        return health_pb2.HealthCheckResponse.NOT_SERVING if self._drain.begun else self._statuses[name]

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
        """Answers with the status of one name; NOT_FOUND where it is unknown."""
        status = self.status(request.service)
        if status is None:
            raise NotFound(f"no service, encoder or collection is known as '{request.service}'", name=request.service)
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(
        self,
        request: health_pb2.HealthCheckRequest,
        context: Context,
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Sends the status now and at each change, until the caller leaves or the server stops."""
        unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        last: int | None = None
        while True:
            changed, draining = self._changed, self._drain.begun
            status = self.status(request.service)
            current = unknown if status is None else status
            if current != last:
                yield health_pb2.HealthCheckResponse(status=current)
                last = current
                continue  # It may have changed while it was sent.
            if draining:
                return
            await self._change(changed)

    def _wake(self) -> None:
        # Each change has an event of its own: a watcher that is busy sending misses none.
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self, changed: asyncio.Event) -> None:
        waits = {asyncio.create_task(changed.wait()), asyncio.create_task(self._drain.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

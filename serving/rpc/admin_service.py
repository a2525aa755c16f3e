"""AdminService: tells of the server."""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio
from prometheus_client import CollectorRegistry, generate_latest

from diptych.v1 import admin_service_pb2 as pb
from diptych.v1 import admin_service_pb2_grpc
from diptych.version import __version__
from serving.backend import Backend
from serving.rpc.encoder_service import encoder_to_wire
from serving.rpc.limits import published_limits

__all__ = ["AdminServicer"]

Context = aio.ServicerContext[Any, Any]


class AdminServicer(admin_service_pb2_grpc.AdminServiceServicer):
    """Answers for the server as a whole.

    Args:
        backend: What it stands on.
        registry: The server's metrics.
    """

    def __init__(self, backend: Backend, registry: CollectorRegistry) -> None:
        self._backend = backend
        self._registry = registry
        self._start_time = Timestamp()
        self._start_time.GetCurrentTime()

    async def GetServerInformation(
        self,
        request: pb.GetServerInformationRequest,
        context: Context,
    ) -> pb.GetServerInformationResponse:
        """Says what runs, since when, and within which limits."""
        return pb.GetServerInformationResponse(
            version=__version__,
            start_time=self._start_time,
            limits=published_limits(),
        )

    async def GetServerMetrics(
        self, request: pb.GetServerMetricsRequest, context: Context
    ) -> pb.GetServerMetricsResponse:
        """Writes out what was counted and timed."""
        # In a thread: where there are workers, they are asked meanwhile.
        exposition = await asyncio.to_thread(generate_latest, self._registry)
        return pb.GetServerMetricsResponse(exposition=exposition.decode())

    async def LoadEncoder(self, request: pb.LoadEncoderRequest, context: Context) -> pb.LoadEncoderResponse:
        """Loads an encoder, or swaps it for what its bundle holds now."""
        info = await self._backend.lifecycle.load(request.name)
        return pb.LoadEncoderResponse(encoder=encoder_to_wire(self._backend.pool.roster, info.reference))

    async def UnloadEncoder(self, request: pb.UnloadEncoderRequest, context: Context) -> pb.UnloadEncoderResponse:
        """Unloads an encoder once it has finished what it accepted."""
        await self._backend.lifecycle.unload(request.name)
        return pb.UnloadEncoderResponse()

    async def SetEncoderAlias(self, request: pb.SetEncoderAliasRequest, context: Context) -> pb.SetEncoderAliasResponse:
        """Points an alias at an encoder."""
        await self._backend.lifecycle.set_alias(request.alias, request.encoder)
        return pb.SetEncoderAliasResponse(encoder=encoder_to_wire(self._backend.pool.roster, request.alias))

    async def DeleteEncoderAlias(
        self, request: pb.DeleteEncoderAliasRequest, context: Context
    ) -> pb.DeleteEncoderAliasResponse:
        """Removes an alias."""
        await self._backend.lifecycle.set_alias(request.alias, None)
        return pb.DeleteEncoderAliasResponse()

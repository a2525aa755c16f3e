"""What the wire promises and this server does not offer yet: it answers UNIMPLEMENTED, in so many words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc import aio

from diptych.v1 import job_service_pb2, snapshot_service_pb2
from serving.errors import Unsupported
from serving.rpc.generic_service import generic_service

__all__ = ["ABSENT_SERVICES", "UNIMPLEMENTED_METHODS", "absent_service", "refuse"]

ABSENT_SERVICES: tuple[ServiceDescriptor, ...] = (
    job_service_pb2.DESCRIPTOR.services_by_name["JobService"],
    snapshot_service_pb2.DESCRIPTOR.services_by_name["SnapshotService"],
)
"""Services of which no method is offered."""
UNIMPLEMENTED_METHODS: tuple[str, ...] = tuple(
    method.full_name for service in ABSENT_SERVICES for method in service.methods
)
"""Full names of all methods that answer UNIMPLEMENTED."""


def refuse(method: str) -> Unsupported:
    """Returns the error of a method that is not offered.

    Args:
        method: Its full name.

    Returns:
        The error, to be raised.
    """
    return Unsupported(f"{method} is not offered by this server yet", method=method)


def absent_service(service: ServiceDescriptor) -> grpc.GenericRpcHandler:
    """Returns handlers that refuse every method of a service.

    Args:
        service: The service.

    Returns:
        Handlers to add to a server.
    """
    return generic_service(service, {method.name: _refusal(method) for method in service.methods})


def _refusal(method: MethodDescriptor) -> Callable[[Any, Any], Any]:
    error = refuse(method.full_name)

    async def answer(_request: Any, _context: aio.ServicerContext[Any, Any]) -> Any:
        raise error

    async def stream(_request: Any, _context: aio.ServicerContext[Any, Any]) -> Any:
        yield await answer(_request, _context)

    return stream if method.server_streaming else answer

"""What the wire promises and this server does not offer yet: it answers UNIMPLEMENTED, in so many words."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc import aio

from diptych.v1 import admin_service_pb2, job_service_pb2, snapshot_service_pb2
from serving.errors import Unsupported

__all__ = ["ABSENT_SERVICES", "UNIMPLEMENTED_METHODS", "absent_service", "filter_refused", "refuse"]

ABSENT_SERVICES: tuple[ServiceDescriptor, ...] = (
    job_service_pb2.DESCRIPTOR.services_by_name["JobService"],
    snapshot_service_pb2.DESCRIPTOR.services_by_name["SnapshotService"],
)
"""Services of which no method is offered."""
ABSENT_METHODS = tuple(
    admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"].methods_by_name[name]
    for name in ("LoadEncoder", "UnloadEncoder")
)
UNIMPLEMENTED_METHODS: tuple[str, ...] = tuple(
    method.full_name
    for method in (*ABSENT_METHODS, *(method for service in ABSENT_SERVICES for method in service.methods))
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


def filter_refused() -> Unsupported:
    """Returns the error of a request with a filter, to be raised."""
    return Unsupported("filters are not offered by this server yet; leave `filter` out", feature="filter")


def absent_service(service: ServiceDescriptor) -> grpc.GenericRpcHandler:
    """Returns handlers that refuse every method of a service.

    Args:
        service: The service.

    Returns:
        Handlers to add to a server.
    """
    return grpc.method_handlers_generic_handler(
        service.full_name, {method.name: _absent_method(method) for method in service.methods}
    )


def _absent_method(method: MethodDescriptor) -> grpc.RpcMethodHandler[Any, Any]:
    error = refuse(method.full_name)

    async def answer(_request: Any, _context: aio.ServicerContext[Any, Any]) -> Any:
        raise error

    async def stream(_request: Any, _context: aio.ServicerContext[Any, Any]) -> Any:
        yield await answer(_request, _context)

    kinds: dict[tuple[bool, bool], tuple[Any, Any]] = {
        (False, False): (grpc.unary_unary_rpc_method_handler, answer),
        (False, True): (grpc.unary_stream_rpc_method_handler, stream),
        (True, False): (grpc.stream_unary_rpc_method_handler, answer),
        (True, True): (grpc.stream_stream_rpc_method_handler, stream),
    }
    make, behaviour = kinds[method.client_streaming, method.server_streaming]
    handler: grpc.RpcMethodHandler[Any, Any] = make(
        behaviour,
        request_deserializer=GetMessageClass(method.input_type).FromString,
        response_serializer=GetMessageClass(method.output_type).SerializeToString,
    )
    return handler

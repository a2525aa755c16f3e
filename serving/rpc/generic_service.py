"""A gRPC service from its descriptor, where there is no generated code to derive from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

__all__ = ["generic_service"]


def generic_service(
    service: ServiceDescriptor, behaviours: Mapping[str, Callable[[Any, Any], Any]]
) -> grpc.GenericRpcHandler:
    """Returns handlers of a service.

    Args:
        service: Its descriptor.
        behaviours: By the method's name a coroutine function of the request (or its iterator) and the context, or an
            asynchronous generator where replies are streamed; methods without one are unknown to callers.

    Returns:
        Handlers to add to a server.
    """
    handlers = {name: _handler(service.methods_by_name[name], behaviour) for name, behaviour in behaviours.items()}
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _handler(method: MethodDescriptor, behaviour: Callable[[Any, Any], Any]) -> grpc.RpcMethodHandler[Any, Any]:
    kinds: dict[tuple[bool, bool], Any] = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    handler: grpc.RpcMethodHandler[Any, Any] = kinds[method.client_streaming, method.server_streaming](
        behaviour,
        request_deserializer=GetMessageClass(method.input_type).FromString,
        response_serializer=GetMessageClass(method.output_type).SerializeToString,
    )
    return handler

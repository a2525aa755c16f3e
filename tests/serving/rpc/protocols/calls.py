"""Calls of other protocols, with messages of the server's own descriptors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass

from serving.rpc.protocols.descriptors import message_class, protocol_service

__all__ = ["call", "call_stream", "message"]

message = message_class


def call(channel: grpc.Channel, service: str, method: str, **fields: Any) -> Any:
    """Calls a unary method with a request of the fields given."""
    descriptor = protocol_service(service).methods_by_name[method]
    request = GetMessageClass(descriptor.input_type)(**fields)
    invoke: Any = channel.unary_unary(
        f"/{service}/{method}",
        request_serializer=lambda sent: sent.SerializeToString(),
        response_deserializer=GetMessageClass(descriptor.output_type).FromString,
    )
    return invoke(request, timeout=10)


def call_stream(channel: grpc.Channel, service: str, method: str, requests: Iterable[Any]) -> list[Any]:
    """Calls a streaming method and waits for all replies."""
    descriptor = protocol_service(service).methods_by_name[method]
    invoke: Any = channel.stream_stream(
        f"/{service}/{method}",
        request_serializer=lambda sent: sent.SerializeToString(),
        response_deserializer=GetMessageClass(descriptor.output_type).FromString,
    )
    return list(invoke(iter(requests), timeout=10))

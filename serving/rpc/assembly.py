"""Puts a gRPC server together: services, health, reflection, interceptors, limits."""

from __future__ import annotations

from dataclasses import dataclass

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from diptych.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    collection_service_pb2,
    collection_service_pb2_grpc,
    encoder_service_pb2,
    encoder_service_pb2_grpc,
    search_service_pb2,
    search_service_pb2_grpc,
)
from serving.backend import Backend
from serving.config import MAX_MESSAGE_BYTES
from serving.rpc.admin_service import AdminServicer
from serving.rpc.collection_service import CollectionServicer
from serving.rpc.draining import Drain, DrainAdmission, DrainStreams
from serving.rpc.encoder_service import EncoderServicer
from serving.rpc.health_service import HealthServicer
from serving.rpc.interception import ErrorBoundary
from serving.rpc.metrics import CallMetrics
from serving.rpc.search_service import SearchServicer
from serving.rpc.unimplemented import ABSENT_SERVICES, absent_service

__all__ = ["Wire", "build_wire", "service_names"]

ADMIN = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name
COLLECTIONS = collection_service_pb2.DESCRIPTOR.services_by_name["CollectionService"].full_name
ENCODERS = encoder_service_pb2.DESCRIPTOR.services_by_name["EncoderService"].full_name
SEARCH = search_service_pb2.DESCRIPTOR.services_by_name["SearchService"].full_name
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A second server on the same port shall fail, not take half of the first one's calls.
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wire:
    """A gRPC server and what steers it."""

    server: aio.Server
    health: HealthServicer
    drain: Drain
    metrics: CallMetrics


def service_names() -> dict[str, str]:
    """Returns the full names of the services whose health is reported, by what they need to serve."""
    return {"admin": ADMIN, "collections": COLLECTIONS, "encoders": ENCODERS, "search": SEARCH}


def build_wire(backend: Backend) -> Wire:
    """Builds the server over a backend; it listens nowhere yet.

    Args:
        backend: Encoders and collections.

    Returns:
        The server; every known health name is NOT_SERVING.
    """
    drain = Drain()
    health = HealthServicer(drain)
    metrics = CallMetrics()
    # Outermost first: metrics see the status that the boundary gave.
    interceptors = [metrics, ErrorBoundary(), DrainAdmission(drain), DrainStreams(drain)]
    server = aio.server(interceptors=interceptors, options=OPTIONS)
    encoder_service_pb2_grpc.add_EncoderServiceServicer_to_server(EncoderServicer(backend), server)
    collection_service_pb2_grpc.add_CollectionServiceServicer_to_server(CollectionServicer(backend, health), server)
    search_service_pb2_grpc.add_SearchServiceServicer_to_server(SearchServicer(backend), server)
    admin_service_pb2_grpc.add_AdminServiceServicer_to_server(AdminServicer(), server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    server.add_generic_rpc_handlers(tuple(absent_service(service) for service in ABSENT_SERVICES))
    names = service_names()
    absent = [service.full_name for service in ABSENT_SERVICES]
    reflection.enable_server_reflection([*names.values(), *absent, HEALTH, reflection.SERVICE_NAME], server)
    for name in ("", *names.values(), *absent):
        health.set(name, serving=False)
    return Wire(server=server, health=health, drain=drain, metrics=metrics)

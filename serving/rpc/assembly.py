"""Puts a gRPC server together: services, health, reflection, interceptors, limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from google.protobuf.descriptor import ServiceDescriptor
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

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
from serving.config import MAX_MESSAGE_BYTES, ServerConfig
from serving.rpc.admin_service import AdminServicer
from serving.rpc.collection_service import CollectionServicer
from serving.rpc.draining import Drain, DrainAdmission, DrainStreams
from serving.rpc.encoder_metrics import EncoderMetrics
from serving.rpc.encoder_service import EncoderServicer
from serving.rpc.generic_service import generic_service
from serving.rpc.health_service import HealthServicer
from serving.rpc.interception import ErrorBoundary
from serving.rpc.metrics import CallMetrics
from serving.rpc.observation import Observation
from serving.rpc.protocols.descriptors import INFERENCE, TEI_EMBED, TEI_INFO, protocol_service, reflected_pool
from serving.rpc.protocols.open_inference import OpenInferenceServicer
from serving.rpc.protocols.tei import TeiServicer
from serving.rpc.search_service import SearchServicer
from serving.rpc.tracing import Tracing
from serving.rpc.unimplemented import ABSENT_SERVICES, absent_service

__all__ = ["Wire", "build_wire", "service_names"]

ADMIN = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"]
COLLECTIONS = collection_service_pb2.DESCRIPTOR.services_by_name["CollectionService"]
ENCODERS = encoder_service_pb2.DESCRIPTOR.services_by_name["EncoderService"]
SEARCH = search_service_pb2.DESCRIPTOR.services_by_name["SearchService"]
# These two packages type their descriptors as the C extension's.
HEALTH = cast(ServiceDescriptor, health_pb2.DESCRIPTOR.services_by_name["Health"])
REFLECTION = cast(ServiceDescriptor, reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"])
OWN_SERVICES: tuple[ServiceDescriptor, ...] = (ADMIN, COLLECTIONS, ENCODERS, SEARCH)

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


def service_names() -> dict[str, tuple[str, ...]]:
    """Returns the full names of the services whose health is reported, by what they need to serve."""
    return {
        "admin": (ADMIN.full_name,),
        "collections": (COLLECTIONS.full_name, SEARCH.full_name),
        "encoders": (ENCODERS.full_name, INFERENCE, TEI_EMBED, TEI_INFO),
    }


def build_wire(backend: Backend, config: ServerConfig, tracing: Tracing | None = None) -> Wire:
    """Builds the server over a backend; it listens nowhere yet.

    Args:
        backend: Encoders and collections.
        config: Whose encoder one-model protocols mean, and what they tell of the runtime; whether calls are logged.
        tracing: Makes spans of calls; None makes none.

    Returns:
        The server; every known health name is NOT_SERVING.
    """
    drain = Drain()
    health = HealthServicer(drain)
    metrics = CallMetrics()
    metrics.registry.register(EncoderMetrics(backend.pool))
    # Outermost first: metrics see the status that the boundary gave.
    interceptors = [metrics, ErrorBoundary(), DrainAdmission(drain), DrainStreams(drain)]
    if config.logs.access_log or tracing is not None:
        interceptors.insert(0, Observation(access_log=config.logs.access_log, tracing=tracing))
    server = aio.server(interceptors=interceptors, options=OPTIONS)
    encoder_service_pb2_grpc.add_EncoderServiceServicer_to_server(EncoderServicer(backend), server)
    collection_service_pb2_grpc.add_CollectionServiceServicer_to_server(CollectionServicer(backend, health), server)
    search_service_pb2_grpc.add_SearchServiceServicer_to_server(SearchServicer(backend), server)
    admin_service_pb2_grpc.add_AdminServiceServicer_to_server(AdminServicer(backend, metrics.registry), server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    server.add_generic_rpc_handlers(tuple(absent_service(service) for service in ABSENT_SERVICES))
    tei = TeiServicer(backend, config.tei_encoder or "", config.runtime)
    spoken = {
        INFERENCE: OpenInferenceServicer(backend).behaviours(),
        TEI_INFO: tei.info_behaviours(),
        TEI_EMBED: tei.embed_behaviours(),
    }
    server.add_generic_rpc_handlers(
        tuple(generic_service(protocol_service(name), behaviours) for name, behaviours in spoken.items())
    )
    services = [*OWN_SERVICES, *ABSENT_SERVICES, *(protocol_service(name) for name in spoken)]
    reflected: list[ServiceDescriptor] = [*services, HEALTH, REFLECTION]
    names = [service.full_name for service in reflected]
    reflection.enable_server_reflection(names, server, reflected_pool(reflected))
    for name in ("", *(service.full_name for service in services)):
        health.set(name, serving=False)
    return Wire(server=server, health=health, drain=drain, metrics=metrics)

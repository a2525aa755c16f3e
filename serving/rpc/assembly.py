"""Puts a gRPC server together: services, health, reflection, interceptors, limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from google.protobuf.descriptor import ServiceDescriptor
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2
from prometheus_client import CollectorRegistry

from diptych.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    collection_service_pb2,
    collection_service_pb2_grpc,
    encoder_service_pb2,
    encoder_service_pb2_grpc,
    job_service_pb2,
    job_service_pb2_grpc,
    search_service_pb2,
    search_service_pb2_grpc,
    snapshot_service_pb2,
    snapshot_service_pb2_grpc,
)
from serving.backend import Backend
from serving.config import MAX_MESSAGE_BYTES, ServerConfig
from serving.rpc.admin_service import AdminServicer
from serving.rpc.collection_metrics import CollectionMetrics
from serving.rpc.collection_service import CollectionServicer
from serving.rpc.draining import Drain, DrainAdmission, DrainStreams
from serving.rpc.encoder_metrics import EncoderMetrics
from serving.rpc.encoder_service import EncoderServicer
from serving.rpc.generic_service import generic_service
from serving.rpc.health_service import HealthServicer
from serving.rpc.interception import ErrorBoundary
from serving.rpc.job_service import JobServicer
from serving.rpc.metrics import CallMetrics
from serving.rpc.observation import Observation
from serving.rpc.protocols.descriptors import INFERENCE, TEI_EMBED, TEI_INFO, protocol_service, reflected_pool
from serving.rpc.protocols.open_inference import OpenInferenceServicer
from serving.rpc.protocols.tei import TeiServicer
from serving.rpc.search_service import SearchServicer
from serving.rpc.snapshot_service import SnapshotServicer
from serving.rpc.tracing import Tracing
from serving.telemetry.config import LogConfig

__all__ = [
    "HEALTH",
    "Wire",
    "add_encoding",
    "add_reflection",
    "build_wire",
    "every_service",
    "server_options",
    "service_names",
]

ADMIN = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"]
COLLECTIONS = collection_service_pb2.DESCRIPTOR.services_by_name["CollectionService"]
ENCODERS = encoder_service_pb2.DESCRIPTOR.services_by_name["EncoderService"]
JOBS = job_service_pb2.DESCRIPTOR.services_by_name["JobService"]
SEARCH = search_service_pb2.DESCRIPTOR.services_by_name["SearchService"]
SNAPSHOTS = snapshot_service_pb2.DESCRIPTOR.services_by_name["SnapshotService"]
# These two packages type their descriptors as the C extension's.
HEALTH = cast(ServiceDescriptor, health_pb2.DESCRIPTOR.services_by_name["Health"])
REFLECTION = cast(ServiceDescriptor, reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"])
OWN_SERVICES: tuple[ServiceDescriptor, ...] = (ADMIN, COLLECTIONS, ENCODERS, JOBS, SEARCH, SNAPSHOTS)

SPOKEN = (INFERENCE, TEI_INFO, TEI_EMBED)

Options = tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wire:
    """A gRPC server and what steers it."""

    server: aio.Server
    health: HealthServicer
    drain: Drain
    metrics: CallMetrics
    shown: CollectorRegistry
    """The metrics as callers see them."""


def server_options(*, share_port: bool) -> Options:
    """Returns the options of a server.

    Args:
        share_port: Whether several processes listen on its port.

    Returns:
        gRPC's names and values.
    """
    return (
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        # Where it is not shared, a second server shall fail, not take half of the first one's calls.
        ("grpc.so_reuseport", int(share_port)),
    )


def every_service() -> tuple[ServiceDescriptor, ...]:
    """Returns all that a server offers, but for health and reflection."""
    return (*OWN_SERVICES, *(protocol_service(name) for name in SPOKEN))


def service_names() -> dict[str, tuple[str, ...]]:
    """Returns the full names of the services whose health is reported, by what they need to serve."""
    return {
        "admin": (ADMIN.full_name,),
        "collections": (COLLECTIONS.full_name, JOBS.full_name, SEARCH.full_name, SNAPSHOTS.full_name),
        "encoders": (ENCODERS.full_name, INFERENCE, TEI_EMBED, TEI_INFO),
    }


def add_encoding(server: aio.Server, backend: Backend, config: ServerConfig) -> None:
    """Adds the services that stand on encoders alone: our own and those of other protocols.

    Args:
        server: The server; it has not started yet.
        backend: Whose encoders answer.
        config: Whose encoder one-model protocols mean, and what they tell of the runtime.
    """
    encoder_service_pb2_grpc.add_EncoderServiceServicer_to_server(EncoderServicer(backend), server)
    tei = TeiServicer(backend, config.tei_encoder or "", config.runtime)
    spoken = {
        INFERENCE: OpenInferenceServicer(backend).behaviours(),
        TEI_INFO: tei.info_behaviours(),
        TEI_EMBED: tei.embed_behaviours(),
    }
    server.add_generic_rpc_handlers(
        tuple(generic_service(protocol_service(name), behaviours) for name, behaviours in spoken.items())
    )


def add_reflection(server: aio.Server) -> None:
    """Adds reflection of every service.

    Args:
        server: The server; it has not started yet.
    """
    reflected: list[ServiceDescriptor] = [*every_service(), HEALTH, REFLECTION]
    names = [service.full_name for service in reflected]
    reflection.enable_server_reflection(names, server, reflected_pool(reflected))


def watching(metrics: CallMetrics, logs: LogConfig, tracing: Tracing | None) -> list[aio.ServerInterceptor]:
    """Returns what watches calls, outermost first; around what guards them it sees the status that they end with.

    Args:
        metrics: Counts and times them.
        logs: Whether each writes a line.
        tracing: Makes spans of them; None makes none.

    Returns:
        Interceptors.
    """
    is_observed = logs.access_log or tracing is not None
    return [*([Observation(access_log=logs.access_log, tracing=tracing)] if is_observed else []), metrics]


def guarding(drain: Drain) -> list[aio.ServerInterceptor]:
    """Returns what gives calls their status, outermost first.

    Args:
        drain: Refuses them once it has begun.

    Returns:
        Interceptors.
    """
    return [ErrorBoundary(), DrainAdmission(drain), DrainStreams(drain)]


def build_wire(
    backend: Backend,
    config: ServerConfig,
    tracing: Tracing | None = None,
    *,
    merge: Callable[[CollectorRegistry], CollectorRegistry] = lambda own: own,
) -> Wire:
    """Builds the server over a backend; it listens nowhere yet.

    Args:
        backend: Encoders and collections.
        config: Whose encoder one-model protocols mean, and what they tell of the runtime; whether calls are logged.
        tracing: Makes spans of calls; None makes none.
        merge: Turns this process's metrics into those that are shown.

    Returns:
        The server; every known health name is NOT_SERVING.
    """
    drain = Drain()
    health = HealthServicer(drain)
    metrics = CallMetrics()
    metrics.registry.register(EncoderMetrics(backend.pool))
    metrics.registry.register(CollectionMetrics(backend))
    shown = merge(metrics.registry)
    interceptors = [*watching(metrics, config.logs, tracing), *guarding(drain)]
    server = aio.server(interceptors=interceptors, options=server_options(share_port=config.workers > 1))
    add_encoding(server, backend, config)
    collection_service_pb2_grpc.add_CollectionServiceServicer_to_server(CollectionServicer(backend, health), server)
    job_service_pb2_grpc.add_JobServiceServicer_to_server(JobServicer(backend, drain), server)
    snapshot_service_pb2_grpc.add_SnapshotServiceServicer_to_server(SnapshotServicer(backend, drain), server)
    search_service_pb2_grpc.add_SearchServiceServicer_to_server(SearchServicer(backend), server)
    admin_service_pb2_grpc.add_AdminServiceServicer_to_server(AdminServicer(backend, shown), server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    add_reflection(server)
    for name in ("", *(service.full_name for service in every_service())):
        health.set(name, serving=False)
    return Wire(server=server, health=health, drain=drain, metrics=metrics, shown=shown)

"""How a server is set up; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from serving.collections.config import CollectionsConfig
from serving.encoders.config import RuntimeConfig
from serving.jobs.config import JobsConfig
from serving.telemetry.config import LogConfig, TracingConfig

__all__ = ["MAX_MESSAGE_BYTES", "ServerConfig"]

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
"""Largest message, both ways."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """Settings of one server; each has an environment twin (`DIPTYCH_PORT`, `DIPTYCH_DRAIN_TIMEOUT_S`, ...)."""

    bundles: Path = Path("bundles")
    """Folder of bundles to serve, or one bundle."""
    data: Path = Path("data")
    """Folder that holds the collections; made where it is missing; one server at a time."""
    watch_s: float = 0.0
    """Seconds between two looks at the bundles folder, which load what is new, swap what changed and unload what is
    gone; 0 does not look."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for every interface."""
    port: int = 50051
    """Port to listen on; 0 takes a free one, printed at start."""
    workers: int = 1
    """Processes that embed, on one port; the first keeps the collections. Several are for machines with many cores:
    each loads the encoders for itself."""
    metrics_port: int | None = None
    """Port of the Prometheus metrics over HTTP, on the same address; 0 takes a free one; none where unset."""
    tei_encoder: str | None = None
    """Encoder that clients of text-embeddings-inference get, whose protocol names none; the only text encoder where
    unset."""
    drain_timeout_s: float = 30.0
    """Longest time after SIGTERM to finish what was accepted, in seconds."""
    read_threads: int = 8
    """Threads that search and read collections."""
    write_threads: int = 16
    """Writes that may wait at a time; those that wait together are committed together."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    """How the encoders run."""
    collections: CollectionsConfig = field(default_factory=CollectionsConfig)
    """How the collections are kept."""
    jobs: JobsConfig = field(default_factory=JobsConfig)
    """How long work is run."""
    logs: LogConfig = field(default_factory=LogConfig)
    """What is logged."""
    tracing: TracingConfig = field(default_factory=TracingConfig)
    """What is traced."""

    def __post_init__(self) -> None:
        for name in ("port", "metrics_port"):
            port = getattr(self, name)
            if port is not None and not 0 <= port <= 65_535:
                raise ValueError(f"{name} ({port}) must be in [0, 65535]")
        for name in ("drain_timeout_s", "watch_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} ({getattr(self, name)}) must be 0 or more")
        for name in ("read_threads", "write_threads", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must be at least 1")

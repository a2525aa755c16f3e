"""What a worker is told when it starts, and what every process of several gets of the machine."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from serving.config import ServerConfig
from serving.encoders.config import RuntimeConfig
from serving.telemetry.config import LogConfig, TracingConfig

__all__ = ["WorkerSettings", "share_of_cores"]


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSettings:
    """One worker's; travels as one line of JSON."""

    number: int
    """From 1 on; 0 is the owner."""
    owner_socket: Path
    """Unix socket on which the owner answers."""
    control_socket: Path
    """Unix socket on which the worker hears from the owner."""
    host: str
    port: int
    """The bound one, shared with the owner."""
    bundles: Path
    tei_encoder: str | None
    drain_timeout_s: float
    runtime: RuntimeConfig
    logs: LogConfig = field(default_factory=LogConfig)
    tracing: TracingConfig = field(default_factory=TracingConfig)

    def to_line(self) -> bytes:
        """Returns the settings as a line, its end included."""
        return json.dumps(asdict(self), default=str).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> WorkerSettings:
        """Reads what `to_line` wrote.

        Args:
            line: The line.

        Returns:
            The settings.
        """
        values = json.loads(line)
        paths = {name: Path(values[name]) for name in ("owner_socket", "control_socket", "bundles")}
        parts = {"runtime": RuntimeConfig, "logs": LogConfig, "tracing": TracingConfig}
        return cls(**values | paths | {name: kind(**values[name]) for name, kind in parts.items()})


def share_of_cores(config: ServerConfig) -> ServerConfig:
    """Gives each of several processes its part of the cores, where the configuration says nothing else.

    Args:
        config: As the operator gave it.

    Returns:
        The same for one process; for more, `runtime.threads` 0 becomes the cores over the processes, at least 1.
    """
    if config.workers == 1 or config.runtime.threads:
        return config
    threads = max(1, config.runtime.graph_threads // config.workers)
    return replace(config, runtime=replace(config.runtime, threads=threads))

"""What a server tells of itself: its log and its traces; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

__all__ = ["LogConfig", "TracingConfig", "with_standard_endpoint"]

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, kw_only=True, slots=True)
class LogConfig:
    """Settings of the log, which goes to stderr and never holds what callers send."""

    log_format: str = "text"
    """`text`, or `json`: an object a line, and nothing else on stderr."""
    log_level: str = "info"
    """Least level that is written: `debug`, `info`, `warning` or `error`."""
    access_log: bool = False
    """Whether every call writes a line when it ends: method, code, time, names and counts."""

    def __post_init__(self) -> None:
        for name, choices in (("log_format", FORMATS), ("log_level", LEVELS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} ({getattr(self, name)!r}) must be one of {', '.join(choices)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TracingConfig:
    """Settings of the traces, which never hold what callers send; they need the extra `tracing`."""

    traces_endpoint: str | None = None
    """Collector that gets a trace of each call by OTLP over gRPC: `http://HOST:4317`, or `https://HOST:4317` for TLS.
    Where unset, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT; without all three, no traces."""
    traces_ratio: float | None = None
    """Share of the traces that begin here that is sent, in [0, 1]; where a caller began one, the caller's choice holds.
    Where unset, as OTEL_TRACES_SAMPLER says, or all."""

    def __post_init__(self) -> None:
        endpoint, ratio = self.traces_endpoint, self.traces_ratio
        if endpoint is not None and not endpoint.startswith(("http://", "https://")):
            raise ValueError(f"traces_endpoint ({endpoint!r}) must be http://HOST:PORT, or https:// for TLS")
        if ratio is not None and not 0 <= ratio <= 1:
            raise ValueError(f"traces_ratio ({ratio}) must be in [0, 1]")


def with_standard_endpoint(config: TracingConfig, environment: Mapping[str, str]) -> TracingConfig:
    """Takes the endpoint from OpenTelemetry's own variables, where there is none yet.

    Args:
        config: The settings.
        environment: Variables by name; an empty value counts as unset.

    Returns:
        The settings, unchanged where the variables name no endpoint or say that nothing is traced.

    Raises:
        ValueError: They name an endpoint of another protocol than OTLP over gRPC.
    """
    is_off = (
        environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none"
    )
    endpoint = _first(environment, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    if config.traces_endpoint is not None or is_off or not endpoint:
        return config
    protocol = _first(environment, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol not in ("", "grpc"):
        raise ValueError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL ({protocol!r}) must be 'grpc', which is how traces are sent; name the "
            "collector's gRPC port and set OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc, or set OTEL_TRACES_EXPORTER=none"
        )
    return replace(config, traces_endpoint=endpoint)


def _first(environment: Mapping[str, str], *names: str) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")

"""How both clients connect."""

from __future__ import annotations

from typing import Any

from diptych.client.chunks import MAX_MESSAGE_BYTES

__all__ = ["CHANNEL_OPTIONS", "DEFAULT_TARGET", "DEFAULT_TIMEOUT_S", "HEALTH_WATCH", "health_is_serving"]

DEFAULT_TARGET = "127.0.0.1:50051"
"""Where `diptych serve` listens unless told otherwise."""
DEFAULT_TIMEOUT_S = 60.0
"""Deadline of one call, its retries included."""
CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
]
HEALTH_WATCH = "/grpc.health.v1.Health/Watch"


def health_is_serving(reply: bytes) -> bool:
    """Reads a health reply as it is on the wire, which spares the client a dependency for one number.

    Args:
        reply: An encoded `HealthCheckResponse`.

    Returns:
        Whether its only field, `status`, is SERVING (1).
    """
    return reply == b"\x08\x01"

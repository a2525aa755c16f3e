"""Who made a vector, and how long it took, as every reply says it."""

from __future__ import annotations

import time
from typing import Any, cast

from google.protobuf.duration_pb2 import Duration
from grpc import aio

from diptych.v1 import embedding_pb2
from models.bundle.encoder import EncoderInfo

__all__ = ["deadline_of", "duration", "stamp_of", "timing_of"]


def duration(seconds: float) -> Duration:
    """Returns a span as the wire has it.

    Args:
        seconds: Its length.

    Returns:
        The message, to the nanosecond.
    """
    message = Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message


def stamp_of(info: EncoderInfo | None) -> embedding_pb2.EncoderStamp | None:
    """Returns which encoder made the vectors of a reply.

    Args:
        info: The encoder; None where none did.

    Returns:
        The stamp, or None.
    """
    if info is None:
        return None
    return embedding_pb2.EncoderStamp(
        name=info.name, version=info.version, space=info.space, fingerprint=info.fingerprint
    )


def timing_of(queue_s: float, compute_s: float) -> embedding_pb2.EmbedTiming:
    """Returns where the time of a call went.

    Args:
        queue_s: Seconds it waited.
        compute_s: Seconds in the encoder.

    Returns:
        The message.
    """
    return embedding_pb2.EmbedTiming(queue_duration=duration(queue_s), compute_duration=duration(compute_s))


def deadline_of(context: aio.ServicerContext[Any, Any]) -> float | None:
    """Returns the monotonic time after which the caller no longer waits; None where it set no deadline.

    Args:
        context: The call.

    Returns:
        Seconds on the clock of `time.monotonic`, which is the event loop's.
    """
    # Its types say float, but a call without a deadline gives None.
    remaining_s = cast("float | None", context.time_remaining())
    return None if remaining_s is None else time.monotonic() + remaining_s

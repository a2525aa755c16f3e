"""The published limits, and the checks that hold callers to them."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message

from diptych.v1 import admin_service_pb2
from serving.collections.config import (
    MAX_BATCH_RECORDS,
    MAX_DIMENSION,
    MAX_ID_BYTES,
    MAX_K,
    MAX_PAGE_RECORDS,
    MAX_QUERIES,
)
from serving.config import MAX_MESSAGE_BYTES
from serving.errors import InputTooLarge
from serving.queries import MAX_EXAMPLES

__all__ = ["bounded", "check_batch_size", "check_reply_bytes", "published_limits"]

Reply = TypeVar("Reply", bound=Message)


def published_limits() -> admin_service_pb2.ServerLimits:
    """Returns what `GetServerInformation` says of limits."""
    return admin_service_pb2.ServerLimits(
        max_message_bytes=MAX_MESSAGE_BYTES,
        max_batch_size=MAX_BATCH_RECORDS,
        max_query_count=MAX_QUERIES,
        max_k=MAX_K,
        max_example_count=MAX_EXAMPLES,
        max_page_size=MAX_PAGE_RECORDS,
        max_record_id_bytes=MAX_ID_BYTES,
        max_dimension=MAX_DIMENSION,
    )


def check_batch_size(count: int, *, field: str) -> None:
    """Refuses a batch over the limit.

    Args:
        count: Items in it.
        field: Their field in the request.

    Raises:
        InputTooLarge: There are too many.
    """
    if count > MAX_BATCH_RECORDS:
        raise InputTooLarge(
            f"{count} {field} in one call, more than {MAX_BATCH_RECORDS}; send several calls or a stream",
            field=field,
            count=count,
            limit=MAX_BATCH_RECORDS,
        )


def check_reply_bytes(reply_bytes: int) -> None:
    """Refuses a call whose reply could not be sent, before it is computed.

    Args:
        reply_bytes: The bytes of its vectors alone.

    Raises:
        InputTooLarge: The reply would not fit a message.
    """
    if reply_bytes > MAX_MESSAGE_BYTES:
        raise InputTooLarge(
            f"the reply would take {reply_bytes} bytes, more than a message's {MAX_MESSAGE_BYTES}; ask for less",
            reply_bytes=reply_bytes,
            limit_bytes=MAX_MESSAGE_BYTES,
        )


def bounded(reply: Reply) -> Reply:
    """Returns a reply that fits a message.

    Args:
        reply: The reply.

    Returns:
        The same.
    """
    check_reply_bytes(reply.ByteSize())
    return reply

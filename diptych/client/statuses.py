"""Statuses from the wire to errors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from diptych.client.errors import ClientError, ErrorDetails, error_class

__all__ = ["error_of_rpc", "error_of_status"]

DETAILS_KEY = "grpc-status-details-bin"
CODE_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


def error_of_status(status: status_pb2.Status) -> ClientError:
    """Returns the error of one item of a batch.

    Args:
        status: Its status.

    Returns:
        The error, not raised.
    """
    code = CODE_NAMES.get(status.code, "UNKNOWN")
    return error_class(code)(status.message, code=code, details=_details(status.details))


def error_of_rpc(error: Any, target: str) -> ClientError:
    """Returns the error of a failed call.

    Args:
        error: What grpc raised: an `RpcError` that is also a call, or an `AioRpcError`.
        target: The server's address, for the message.

    Returns:
        The error, not raised.
    """
    code = error.code().name
    status = _rich_status(error.trailing_metadata() or ())
    if status is not None:
        return error_of_status(status)
    message = error.details() or code
    if code == "UNAVAILABLE":
        message = f"no server answers at {target} ({message}); start one with `diptych serve`, or name another address"
    elif code == "DEADLINE_EXCEEDED":
        message = f"no answer from {target} in time; allow more time, or send less at once"
    return error_class(code)(message, code=code)


def _rich_status(metadata: Iterable[tuple[str, str | bytes]]) -> status_pb2.Status | None:
    for key, value in metadata:
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None


def _details(packed: Iterable[AnyMessage]) -> ErrorDetails:
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    bad_request = error_details_pb2.BadRequest()
    has_retry = False
    for detail in packed:
        detail.Unpack(info)
        has_retry = detail.Unpack(retry) or has_retry
        detail.Unpack(bad_request)
    return ErrorDetails(
        reason=info.reason,
        metadata=dict(info.metadata),
        retry_after_s=retry.retry_delay.ToNanoseconds() / 1e9 if has_retry else None,
        violations={violation.field: violation.description for violation in bad_request.field_violations},
    )

"""The only table from domain errors to gRPC statuses."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from diptych.v1 import embedding_pb2
from serving import errors

__all__ = ["DOMAIN", "STATUS_BY_ERROR", "item_errors_to_wire", "status_code", "status_of"]

logger = logging.getLogger(__name__)

DOMAIN = "diptych"
"""`ErrorInfo.domain` of every status."""
INTERNAL_MESSAGE = "the server failed; its log has the cause"
MAX_MESSAGE_CHARACTERS = 400
"""Statuses travel in headers, of which 8 KiB are safe everywhere; a caller's own long value must not overflow them."""
MAX_VALUE_CHARACTERS = 200
MAX_VIOLATION_BYTES = 2_500
"""Room for the bad items that a status lists; `item_error_count` says how many there were."""

STATUS_BY_ERROR: dict[type[errors.ServingError], grpc.StatusCode] = {
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.CollectionExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.SnapshotExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.JobFailed: grpc.StatusCode.ABORTED,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.VersionMismatch: grpc.StatusCode.ABORTED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.StorageFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.Corrupted: grpc.StatusCode.DATA_LOSS,
    errors.Unsupported: grpc.StatusCode.UNIMPLEMENTED,
}
"""A subclass takes its nearest base's status."""


def status_code(error: BaseException) -> grpc.StatusCode:
    """Returns the gRPC status that an error becomes; INTERNAL for everything outside the domain.

    Args:
        error: What was raised.

    Returns:
        The code of the error's own class, or of its nearest base in the table.
    """
    for base in type(error).__mro__:
        if base in STATUS_BY_ERROR:
            return STATUS_BY_ERROR[base]
    return grpc.StatusCode.INTERNAL


def status_of(error: BaseException) -> status_pb2.Status:
    """Returns the full status of an error: code, message, and details for machines.

    An error outside the domain tells the caller nothing; its traceback goes to the log.

    Args:
        error: What was raised.

    Returns:
        A status whose first detail is `ErrorInfo`; `RetryInfo` follows where a retry is worthwhile, `BadRequest` where
        single items of a batch are at fault.
    """
    if not isinstance(error, errors.ServingError):
        logger.error("unexpected error", exc_info=error)
        return _status(grpc.StatusCode.INTERNAL, INTERNAL_MESSAGE, [_error_info("INTERNAL", {})])
    metadata = dict(error.metadata)
    if error.item_errors:
        metadata["item_error_count"] = str(len(error.item_errors))
    details: list[Message] = [_error_info(error.reason, metadata)]
    if isinstance(error, errors.Overloaded):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(round(error.retry_after_s * 1e9))
        details.append(retry)
    if error.item_errors:
        details.append(_bad_request(error.item_errors))
    return _status(status_code(error), error.message, details)


def item_errors_to_wire(item_errors: Mapping[int, BaseException]) -> list[embedding_pb2.ItemError]:
    """Writes the errors of single items, by rising index.

    Args:
        item_errors: Per failed index, why.

    Returns:
        One message per failed item.
    """
    return [embedding_pb2.ItemError(index=index, status=status_of(item_errors[index])) for index in sorted(item_errors)]


def _status(code: grpc.StatusCode, message: str, details: list[Message]) -> status_pb2.Status:
    status = status_pb2.Status(code=code.value[0], message=_cut(message, MAX_MESSAGE_CHARACTERS))
    for detail in details:
        status.details.add().Pack(detail)
    return status


def _error_info(reason: str, metadata: Mapping[str, str]) -> error_details_pb2.ErrorInfo:
    short = {key: _cut(value, MAX_VALUE_CHARACTERS) for key, value in metadata.items()}
    return error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=short)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _bad_request(item_errors: Mapping[int, errors.ServingError]) -> error_details_pb2.BadRequest:
    detail = error_details_pb2.BadRequest()
    for index in sorted(item_errors):
        item_error = item_errors[index]
        detail.field_violations.add(
            field=f"items[{index}]",
            reason=item_error.reason,
            description=_cut(item_error.message, MAX_VALUE_CHARACTERS),
        )
        if detail.ByteSize() > MAX_VIOLATION_BYTES:
            break
    return detail

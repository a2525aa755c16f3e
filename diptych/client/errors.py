"""Everything a call to a server can fail with.

    ClientError
    ├── InvalidArgumentError    a value to change (bad input, wrong dimension, too large)
    ├── NotFoundError           no such encoder, collection or record
    ├── AlreadyExistsError      the name is taken
    ├── PreconditionError       another embedding space, a modality that is not served, a refused encoder
    ├── ConflictError           a version that a write or a read was conditioned on did not hold
    ├── OverloadedError         the server's queue, disk or message limit is exhausted
    ├── UnavailableError        no server there, or one that is starting or stopping
    ├── DeadlineError           no answer in time
    ├── CancelledError          the call was given up
    ├── UnimplementedError      the wire promises it; this server does not offer it
    ├── CorruptedError          stored bytes did not match their checksum
    └── InternalError           the server failed; its log has the cause

Each carries the gRPC status (`code`), the server's `reason`, and the values of its message (`metadata`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "AlreadyExistsError",
    "CancelledError",
    "ClientError",
    "ConflictError",
    "CorruptedError",
    "DeadlineError",
    "ErrorDetails",
    "InternalError",
    "InvalidArgumentError",
    "NotFoundError",
    "OverloadedError",
    "PreconditionError",
    "UnavailableError",
    "UnimplementedError",
    "error_class",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorDetails:
    """What a status says to machines."""

    reason: str = ""
    """In capitals, such as SPACE_MISMATCH; empty where the status came from the transport."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The values of the message, by name."""
    retry_after_s: float | None = None
    """When a retry is worthwhile; None where the server does not say."""
    violations: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with single items of a refused batch, by `items[INDEX]`; the first ones only."""


class ClientError(Exception):
    """Base of every error a call can raise.

    Args:
        message: One sentence for people.
        code: Name of the gRPC status, such as NOT_FOUND.
        details: What the status says to machines.
    """

    def __init__(self, message: str, *, code: str, details: ErrorDetails | None = None) -> None:
        super().__init__(message)
        details = details or ErrorDetails()
        self.message = message
        self.code = code
        self.reason = details.reason
        self.metadata = details.metadata
        self.retry_after_s = details.retry_after_s
        self.violations = details.violations


class InvalidArgumentError(ClientError):
    """A value to change."""


class NotFoundError(ClientError):
    """Something named that is not there."""


class AlreadyExistsError(ClientError):
    """The name is taken."""


class PreconditionError(ClientError):
    """The call is well formed, but the server's state does not allow it."""


class ConflictError(ClientError):
    """A version did not hold."""


class OverloadedError(ClientError):
    """Something of the server is exhausted."""


class UnavailableError(ClientError):
    """No server answers, or it is starting or stopping."""


class DeadlineError(ClientError):
    """No answer came in time."""


class CancelledError(ClientError):
    """The call was given up."""


class UnimplementedError(ClientError):
    """This server does not offer it."""


class CorruptedError(ClientError):
    """Stored bytes did not match their checksum."""


class InternalError(ClientError):
    """The server failed."""


CLASS_BY_CODE: Mapping[str, type[ClientError]] = {
    "INVALID_ARGUMENT": InvalidArgumentError,
    "OUT_OF_RANGE": InvalidArgumentError,
    "NOT_FOUND": NotFoundError,
    "ALREADY_EXISTS": AlreadyExistsError,
    "FAILED_PRECONDITION": PreconditionError,
    "ABORTED": ConflictError,
    "RESOURCE_EXHAUSTED": OverloadedError,
    "UNAVAILABLE": UnavailableError,
    "DEADLINE_EXCEEDED": DeadlineError,
    "CANCELLED": CancelledError,
    "UNIMPLEMENTED": UnimplementedError,
    "DATA_LOSS": CorruptedError,
    "INTERNAL": InternalError,
    "UNKNOWN": InternalError,
}


def error_class(code: str) -> type[ClientError]:
    """Returns the class for a status.

    Args:
        code: Name of the gRPC status.

    Returns:
        The class; `ClientError` itself for a status that no diptych server sends.
    """
    return CLASS_BY_CODE.get(code, ClientError)

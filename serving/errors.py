"""Everything a call can fail with, in the words of the domain; gRPC appears only in `serving.rpc.status`.

ServingError
├── InvalidInput            a value the caller must change
│   ├── DimensionMismatch   a vector of another width than the collection's
│   ├── UndecodableImage    bytes that are no image we read
│   └── InputTooLarge       over a published limit
├── NotFound
│   ├── EncoderNotFound
│   ├── CollectionNotFound
│   ├── RecordNotFound
│   ├── JobNotFound
│   └── SnapshotNotFound
├── CollectionExists
├── SnapshotExists
├── JobFailed               long work ended before its end: a defect, or the server stopped
├── FailedPrecondition
│   ├── ModalityNotServed   no loaded encoder takes this kind of input
│   ├── SpaceMismatch       a vector of another embedding space
│   ├── EncoderRefused      a bundle that failed its own golden inputs
│   └── BundleTooLarge      a bundle that would take more memory than there is
├── VersionMismatch         `if_version` or `min_sequence` did not hold
├── Overloaded              the queue is full; try again after `retry_after_s`
├── StorageFull
├── Unavailable
│   ├── Draining            the server is shutting down
│   └── NotReady            still loading
├── DeadlineExceeded        the caller's deadline passed before the work ran
├── Cancelled               the caller has gone
├── Corrupted               a checksum or a frame did not hold
└── Unsupported             promised by the wire, not offered here
"""

# The tree's names say what happened, in the words of the wire's reasons; the suffix `Error` would add nothing.
# ruff: noqa: N818

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

__all__ = [
    "BundleTooLarge",
    "Cancelled",
    "CollectionExists",
    "CollectionNotFound",
    "Corrupted",
    "DeadlineExceeded",
    "DimensionMismatch",
    "Draining",
    "EncoderNotFound",
    "EncoderRefused",
    "FailedPrecondition",
    "InputTooLarge",
    "InvalidInput",
    "JobFailed",
    "JobNotFound",
    "ModalityNotServed",
    "NotFound",
    "NotReady",
    "Overloaded",
    "RecordNotFound",
    "ServingError",
    "SnapshotExists",
    "SnapshotNotFound",
    "SpaceMismatch",
    "StorageFull",
    "Unavailable",
    "UndecodableImage",
    "Unsupported",
    "VersionMismatch",
]


class ServingError(Exception):
    """Base of every error a caller may see.

    Args:
        message: One sentence that names the value, the limit and the remedy.
        **metadata: The dynamic values of the message, for machines; keys are lower_snake.
    """

    reason: ClassVar[str]

    def __init__(self, message: str, **metadata: object) -> None:
        super().__init__(message)
        self.message = message
        self.metadata: Mapping[str, str] = {key: str(value) for key, value in metadata.items()}
        self.item_errors: Mapping[int, ServingError] = {}
        """For a refused batch, what is wrong with each bad index."""


class InvalidInput(ServingError):
    """A value the caller must change."""

    reason = "INVALID_INPUT"


class DimensionMismatch(InvalidInput):
    """A vector of another width than the collection's."""

    reason = "DIMENSION_MISMATCH"


class UndecodableImage(InvalidInput):
    """Bytes that are no image we read."""

    reason = "UNDECODABLE_IMAGE"


class InputTooLarge(InvalidInput):
    """An input over a published limit."""

    reason = "INPUT_TOO_LARGE"


class NotFound(ServingError):
    """Something named that is not there."""

    reason = "NOT_FOUND"


class EncoderNotFound(NotFound):
    """No encoder of that name is loaded."""

    reason = "ENCODER_NOT_FOUND"


class CollectionNotFound(NotFound):
    """No collection of that name exists."""

    reason = "COLLECTION_NOT_FOUND"


class RecordNotFound(NotFound):
    """No record of that id exists in the collection."""

    reason = "RECORD_NOT_FOUND"


class JobNotFound(NotFound):
    """No job of that name is known."""

    reason = "JOB_NOT_FOUND"


class SnapshotNotFound(NotFound):
    """No snapshot of that name exists."""

    reason = "SNAPSHOT_NOT_FOUND"


class CollectionExists(ServingError):
    """A collection of that name is already there."""

    reason = "COLLECTION_EXISTS"


class SnapshotExists(ServingError):
    """Another snapshot of that name is already there."""

    reason = "SNAPSHOT_EXISTS"


class JobFailed(ServingError):
    """Long work ended before its end, of a defect or because the server stopped; it may be started anew."""

    reason = "JOB_FAILED"


class FailedPrecondition(ServingError):
    """The call is well formed, but the server's state does not allow it."""

    reason = "FAILED_PRECONDITION"


class ModalityNotServed(FailedPrecondition):
    """No loaded encoder takes this kind of input."""

    reason = "MODALITY_NOT_SERVED"


class SpaceMismatch(FailedPrecondition):
    """A vector of another embedding space, whatever its dimension."""

    reason = "SPACE_MISMATCH"


class EncoderRefused(FailedPrecondition):
    """A bundle that did not reproduce its own golden vectors on this machine."""

    reason = "ENCODER_REFUSED"


class BundleTooLarge(FailedPrecondition):
    """A bundle would take more memory than there is."""

    reason = "BUNDLE_TOO_LARGE"


class VersionMismatch(ServingError):
    """The version a write was conditioned on is not the record's."""

    reason = "VERSION_MISMATCH"


class Overloaded(ServingError):
    """The queue is full.

    Args:
        message: One sentence that names the bound.
        retry_after_s: Seconds after which a retry is worthwhile.
        **metadata: As in `ServingError`.
    """

    reason = "QUEUE_FULL"

    def __init__(self, message: str, *, retry_after_s: float, **metadata: object) -> None:
        super().__init__(message, retry_after_s=retry_after_s, **metadata)
        self.retry_after_s = retry_after_s


class StorageFull(ServingError):
    """The disk under the data folder has no room; reads go on."""

    reason = "STORAGE_FULL"


class Unavailable(ServingError):
    """The server cannot answer now; the same call may succeed later."""

    reason = "UNAVAILABLE"


class Draining(Unavailable):
    """The server is shutting down and accepts nothing new."""

    reason = "DRAINING"


class NotReady(Unavailable):
    """The named part is still loading."""

    reason = "NOT_READY"


class DeadlineExceeded(ServingError):
    """The caller's deadline passed before the work ran."""

    reason = "DEADLINE_IN_QUEUE"


class Cancelled(ServingError):
    """The caller has gone."""

    reason = "CANCELLED"


class Corrupted(ServingError):
    """Stored bytes did not match their checksum."""

    reason = "CHECKSUM_MISMATCH"


class Unsupported(ServingError):
    """The wire promises it; this server does not offer it."""

    reason = "UNSUPPORTED"

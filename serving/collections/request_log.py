"""A write repeated under its `request_id` is done once: the outcome is stored in the same transaction as the write."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import cast

from serving.collections.transaction import RecordTransaction
from serving.collections.types import WriteOutcome
from serving.collections.validation import PreparedWrite
from serving.errors import InvalidInput
from serving.stored_errors import error_from_json, error_to_json

__all__ = ["digest_ids", "digest_writes", "once"]


def once(
    transaction: RecordTransaction,
    request_id: str,
    digest: bytes,
    operation: Callable[[], WriteOutcome],
    *,
    remembered: int,
) -> WriteOutcome:
    """Runs an operation, or returns what it returned when it first ran under this request id.

    An operation that raises leaves nothing behind, so a repeated call runs it anew.

    Args:
        transaction: The writer's.
        request_id: The caller's; empty: run always.
        digest: What was asked, in short.
        operation: The write.
        remembered: Latest requests whose outcome is kept.

    Returns:
        The outcome.

    Raises:
        InvalidInput: The request id was used for something else.
    """
    if not request_id:
        return operation()
    connection = transaction.connection
    row = connection.execute("SELECT digest, outcome FROM requests WHERE request_id = ?", (request_id,)).fetchone()
    if row is not None:
        stored_digest, outcome = cast("tuple[bytes, str]", row)
        if stored_digest != digest:
            raise InvalidInput(
                f"request_id {request_id!r} was already used for another write; use a new one for each write",
                request_id=request_id,
            )
        return _decode_outcome(outcome)
    result = operation()
    connection.execute(
        "INSERT INTO requests (request_id, digest, outcome) VALUES (?, ?, ?)",
        (request_id, digest, _encode_outcome(result)),
    )
    connection.execute("DELETE FROM requests WHERE number <= ?", (connection.last_insert_rowid() - remembered,))
    return result


def digest_writes(writes: Iterable[PreparedWrite], *, errors: Iterable[int], allow_partial: bool) -> bytes:
    """Returns a digest of an upsert.

    Args:
        writes: The good records of the batch.
        errors: Indices of the bad ones.
        allow_partial: As the caller said.

    Returns:
        16 bytes.
    """
    state = hashlib.blake2b(b"upsert" + bytes([allow_partial]) + repr(sorted(errors)).encode(), digest_size=16)
    for write in writes:
        version = -1 if write.if_version is None else write.if_version
        content = b"origin" + write.origin if write.origin else write.vector.tobytes()
        parts = (write.id, content, write.metadata, write.fingerprint, write.source_type)
        for part in (*parts, write.source or b""):
            state.update(struct.pack("<Q", len(part)))
            state.update(part)
        state.update(struct.pack("<qq?", write.index, version, write.source is not None))
        if write.expire_us is not None:
            state.update(struct.pack("<q", write.expire_us))
    return state.digest()


def digest_ids(kind: str, ids: Iterable[bytes]) -> bytes:
    """Returns a digest of an operation on ids.

    Args:
        kind: What is done to them.
        ids: Encoded ids, or other parts of the request.

    Returns:
        16 bytes.
    """
    state = hashlib.blake2b(kind.encode(), digest_size=16)
    for identifier in ids:
        state.update(struct.pack("<I", len(identifier)) + identifier)
    return state.digest()


def _encode_outcome(outcome: WriteOutcome) -> str:
    errors = {str(index): error_to_json(error) for index, error in outcome.errors.items()}
    return json.dumps({"sequence": outcome.sequence, "versions": _to_runs(outcome.versions), "errors": errors})


def _decode_outcome(text: str) -> WriteOutcome:
    stored = json.loads(text)
    return WriteOutcome(
        sequence=stored["sequence"],
        versions=_from_runs(stored["versions"]),
        errors={int(index): error_from_json(error) for index, error in stored["errors"].items()},
    )


def _to_runs(versions: Sequence[int]) -> list[list[int]]:
    # Versions of a batch are consecutive but for its zeros: a few pairs stand for thousands of numbers.
    runs: list[list[int]] = []
    for version in versions:
        if runs and version == _next_of(*runs[-1]):
            runs[-1][1] += 1
        else:
            runs.append([version, 1])
    return runs


def _next_of(first: int, count: int) -> int:
    return first + count if first else 0


def _from_runs(runs: Iterable[Sequence[int]]) -> tuple[int, ...]:
    return tuple(
        version for first, count in runs for version in (range(first, first + count) if first else [0] * count)
    )

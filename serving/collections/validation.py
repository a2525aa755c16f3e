"""What a call must bring before anything is written: ids, batches, and how a refused batch says so."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.collections.clock import microseconds_of
from serving.collections.config import MAX_BATCH_RECORDS, MAX_ID_BYTES, MAX_REQUEST_ID_BYTES
from serving.collections.filters.fields import contradiction
from serving.collections.metadata_codec import encode_metadata
from serving.collections.types import CollectionSpec, FieldDefinition, MetadataValue, RecordWrite
from serving.collections.vectors import prepare_vectors
from serving.errors import InputTooLarge, InvalidInput, ServingError

__all__ = [
    "PreparedWrite",
    "batch_error",
    "check_batch_size",
    "encode_id",
    "encode_ids",
    "encode_request_id",
    "prepare_writes",
    "without_contradictions",
]

_NAMED_INDICES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedWrite:
    """A checked record, in the bytes that are stored."""

    index: int
    """Its place in the caller's batch."""
    id: bytes
    vector: NDArray[np.float32]
    origin: bytes
    metadata: bytes
    values: Mapping[str, MetadataValue]
    """The metadata as the columns take it."""
    fingerprint: bytes
    if_version: int | None
    source: bytes | None
    source_type: bytes
    expire_us: int | None = None


def encode_id(identifier: str) -> bytes:
    """Returns the bytes of a record id.

    Args:
        identifier: Id as the caller gave it.

    Returns:
        UTF-8, 1 to `MAX_ID_BYTES` bytes.

    Raises:
        InvalidInput: It is empty, too long, no UTF-8, or holds a control character.
    """
    try:
        encoded = identifier.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidInput(f"record id {identifier!r:.80} is not valid UTF-8") from None
    if not 1 <= len(encoded) <= MAX_ID_BYTES:
        raise InvalidInput(
            f"record id {identifier!r:.80} takes {len(encoded)} bytes, an id takes 1 to {MAX_ID_BYTES}",
            size_bytes=len(encoded),
            limit_bytes=MAX_ID_BYTES,
        )
    if not identifier.isprintable() and any(unicodedata.category(character) == "Cc" for character in identifier):
        raise InvalidInput(f"record id {identifier!r:.80} holds a control character")
    return encoded


def encode_ids(ids: Sequence[str]) -> list[bytes]:
    """Returns the bytes of several record ids.

    Args:
        ids: At most `MAX_BATCH_RECORDS` of them.

    Returns:
        One entry an id.

    Raises:
        InvalidInput: One or more are no ids; `item_errors` says which.
        InputTooLarge: Too many.
    """
    check_batch_size(len(ids))
    encoded: list[bytes] = []
    errors: dict[int, ServingError] = {}
    for index, identifier in enumerate(ids):
        try:
            encoded.append(encode_id(identifier))
        except InvalidInput as error:
            errors[index] = error
    if errors:
        raise batch_error(errors, len(ids))
    return encoded


def encode_request_id(request_id: str) -> str:
    """Returns a request id that may be stored.

    Args:
        request_id: The caller's; empty: none.

    Returns:
        The same.

    Raises:
        InvalidInput: It is too long or no UTF-8.
    """
    try:
        size_bytes = len(request_id.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidInput("request_id is not valid UTF-8") from None
    if size_bytes > MAX_REQUEST_ID_BYTES:
        raise InvalidInput(f"request_id takes {size_bytes} bytes, more than {MAX_REQUEST_ID_BYTES}; use a UUID")
    return request_id


def check_batch_size(count: int) -> None:
    """Refuses a batch over the published limit.

    Args:
        count: Records in it.

    Raises:
        InputTooLarge: More than `MAX_BATCH_RECORDS`.
    """
    if count > MAX_BATCH_RECORDS:
        raise InputTooLarge(
            f"{count} records in one call, more than {MAX_BATCH_RECORDS}; send several calls",
            count=count,
            limit=MAX_BATCH_RECORDS,
        )


def prepare_writes(
    spec: CollectionSpec, writes: Sequence[RecordWrite]
) -> tuple[list[PreparedWrite], dict[int, ServingError]]:
    """Checks a batch and encodes what is good in it.

    An id may stand only once in a batch: which of two the caller meant, and what `if_version` then compares with,
    cannot be known. The first is kept, the later ones are errors.

    Args:
        spec: The collection.
        writes: The caller's batch.

    Returns:
        The good writes in order; and per bad index what is wrong with it.

    Raises:
        InputTooLarge: Too many records.
    """
    check_batch_size(len(writes))
    vectors, errors = prepare_vectors(spec, [write.vector for write in writes])
    prepared: list[PreparedWrite] = []
    first_index: dict[bytes, int] = {}
    for index, write in enumerate(writes):
        try:
            identifier = encode_id(write.id)
            earlier = first_index.setdefault(identifier, index)
            if earlier != index:
                raise InvalidInput(f"record id {write.id!r} is also at index {earlier}; send an id once a batch")
            if index not in errors:
                prepared.append(_prepare(spec, index, write, vectors[index]))
        except InvalidInput as error:
            errors.setdefault(index, error)
    return prepared, errors


def without_contradictions(
    writes: Sequence[PreparedWrite], errors: Mapping[int, ServingError], fields: Sequence[FieldDefinition]
) -> tuple[list[PreparedWrite], dict[int, ServingError]]:
    """Takes out of a batch the records whose metadata contradicts declared fields.

    Args:
        writes: The good records so far.
        errors: Per bad index what is wrong with it.
        fields: The collection's.

    Returns:
        The records that are still good, and all errors.
    """
    found = {write.index: contradiction(fields, write.values) for write in writes} if fields else {}
    refused: dict[int, ServingError] = {index: error for index, error in found.items() if error is not None}
    return [write for write in writes if write.index not in refused], {**errors, **refused}


def _prepare(spec: CollectionSpec, index: int, write: RecordWrite, vector: NDArray[np.float32]) -> PreparedWrite:
    if write.if_version is not None and write.if_version < 0:
        raise InvalidInput(f"if_version ({write.if_version}) must be 0 (no such record) or a version")
    try:
        fingerprint, source_type = write.fingerprint.encode("utf-8"), write.source_type.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidInput("fingerprint and source_type must be valid UTF-8") from None
    return PreparedWrite(
        index=index,
        id=write.id.encode("utf-8"),
        vector=vector,
        origin=write.origin,
        metadata=encode_metadata(write.metadata).encode("utf-8"),
        values=write.metadata,
        fingerprint=fingerprint,
        if_version=write.if_version,
        source=write.source if spec.retain_source else None,
        source_type=source_type if spec.retain_source else b"",
        expire_us=_expire_us(write),
    )


def _expire_us(write: RecordWrite) -> int | None:
    if write.expire_time is None:
        return None
    if write.expire_time.utcoffset() is None:
        raise InvalidInput(
            f"record {write.id!r}: expire_time {write.expire_time.isoformat()} has no time zone; give it one"
        )
    return microseconds_of(write.expire_time)


def batch_error(errors: Mapping[int, ServingError], count: int) -> ServingError:
    """Says in one error why a whole batch was refused.

    Args:
        errors: Per bad index what is wrong with it; at least one.
        count: Size of the batch.

    Returns:
        An error of the items' class where all agree, `InvalidInput` otherwise; `item_errors` holds them all.
    """
    indices = sorted(errors)
    classes = {type(error) for error in errors.values()}
    common = classes.pop() if len(classes) == 1 else InvalidInput
    named = ", ".join(map(str, indices[:_NAMED_INDICES])) + (", ..." if len(indices) > _NAMED_INDICES else "")
    error = common(
        f"nothing was written: {len(indices)} of {count} records are refused (index {named}); "
        f"the first: {errors[indices[0]].message}",
        indices=named,
    )
    error.item_errors = dict(errors)
    return error

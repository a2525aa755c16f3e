"""From a caller's arguments to a write in the writer's queue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from serving.collections import operations
from serving.collections.metadata_codec import encode_metadata
from serving.collections.request_log import digest_ids, digest_writes, once
from serving.collections.transaction import RecordTransaction
from serving.collections.types import CollectionSpec, MetadataValue, RecordWrite, WriteOutcome
from serving.collections.validation import batch_error, encode_id, encode_ids, encode_request_id, prepare_writes
from serving.collections.vectors import check_space
from serving.collections.writer import Writer

__all__ = ["WriteCalls"]


class WriteCalls:
    """Checks and encodes in the caller's thread, so that the writer's does nothing but write.

    Args:
        spec: The collection.
        writer: Its writer.
        remembered: Latest request ids whose outcome is kept.
    """

    def __init__(self, spec: CollectionSpec, writer: Writer, *, remembered: int) -> None:
        self._spec = spec
        self._writer = writer
        self._remembered = remembered

    def upsert(
        self, writes: Sequence[RecordWrite], *, space: str, allow_partial: bool, request_id: str
    ) -> WriteOutcome:
        """Does what `Collection.upsert` says."""
        check_space(self._spec, space)
        prepared, errors = prepare_writes(self._spec, writes)
        if errors and not allow_partial:
            raise batch_error(errors, len(writes))
        digest = digest_writes(prepared, errors=errors, allow_partial=allow_partial) if request_id else b""
        return self._submit(
            lambda transaction: operations.upsert_records(
                transaction, prepared, errors=errors, allow_partial=allow_partial
            ),
            request_id=request_id,
            digest=digest,
            record_count=len(prepared),
        )

    def update_metadata(
        self, identifier: str, metadata: Mapping[str, MetadataValue], *, if_version: int | None, request_id: str
    ) -> WriteOutcome:
        """Does what `Collection.update_metadata` says."""
        encoded_id, encoded = encode_id(identifier), encode_metadata(metadata).encode("utf-8")
        return self._submit(
            lambda transaction: operations.update_metadata(transaction, encoded_id, encoded, if_version=if_version),
            request_id=request_id,
            digest=digest_ids("update-metadata", [encoded_id, encoded, str(if_version).encode("ascii")]),
            record_count=1,
        )

    def delete(self, ids: Sequence[str], *, request_id: str) -> WriteOutcome:
        """Does what `Collection.delete` says."""
        encoded = encode_ids(ids)
        return self._submit(
            lambda transaction: operations.delete_records(transaction, encoded),
            request_id=request_id,
            digest=digest_ids("delete", encoded),
            record_count=len(encoded),
        )

    def delete_expired(self, keys: Iterable[int]) -> WriteOutcome:
        """Deletes records that have expired, by key."""
        return self._writer.submit(lambda transaction: operations.delete_expired(transaction, keys))

    def _submit(
        self,
        run: Callable[[RecordTransaction], WriteOutcome],
        *,
        request_id: str,
        digest: bytes,
        record_count: int,
    ) -> WriteOutcome:
        request_id = encode_request_id(request_id)
        return self._writer.submit(
            lambda transaction: once(
                transaction, request_id, digest, lambda: run(transaction), remembered=self._remembered
            ),
            record_count=record_count,
        )

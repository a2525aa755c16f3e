"""From a caller's arguments to a write in the writer's queue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from serving.collections import operations
from serving.collections.filters.conditions import Condition
from serving.collections.filters.fields import check_condition, contradiction
from serving.collections.index.view import IndexView
from serving.collections.metadata_codec import encode_metadata
from serving.collections.request_log import digest_ids, digest_writes, once
from serving.collections.transaction import RecordTransaction
from serving.collections.types import CollectionSpec, FieldDefinition, MetadataValue, RecordWrite, WriteOutcome
from serving.collections.validation import (
    batch_error,
    encode_id,
    encode_ids,
    encode_request_id,
    prepare_writes,
    without_contradictions,
)
from serving.collections.vectors import check_space
from serving.collections.writer import Writer

__all__ = ["WriteCalls"]


class WriteCalls:
    """Checks and encodes in the caller's thread, so that the writer's does nothing but write.

    Args:
        spec: The collection.
        writer: Its writer.
        view: Returns the index as of the last commit.
        remembered: Latest request ids whose outcome is kept.
    """

    def __init__(self, spec: CollectionSpec, writer: Writer, view: Callable[[], IndexView], *, remembered: int) -> None:
        self._spec = spec
        self._writer = writer
        self._view = view
        self._remembered = remembered

    def upsert(
        self, writes: Sequence[RecordWrite], *, space: str, allow_partial: bool, request_id: str
    ) -> WriteOutcome:
        """Does what `Collection.upsert` says."""
        check_space(self._spec, space)
        fields = self._fields()
        prepared, errors = prepare_writes(self._spec, writes)
        checked, refused = without_contradictions(prepared, errors, fields)
        if errors and not allow_partial:
            raise batch_error(refused, len(writes))
        digest = digest_writes(prepared, errors=errors, allow_partial=allow_partial) if request_id else b""

        def run(transaction: RecordTransaction) -> WriteOutcome:
            good, bad = checked, refused
            if self._fields() is not fields:
                # A field was declared while this write waited.
                good, bad = without_contradictions(prepared, errors, self._fields())
            return operations.upsert_records(transaction, good, errors=bad, allow_partial=allow_partial)

        return self._submit(
            run,
            request_id=request_id,
            digest=digest,
            record_count=len(prepared),
        )

    def update_metadata(
        self, identifier: str, metadata: Mapping[str, MetadataValue], *, if_version: int | None, request_id: str
    ) -> WriteOutcome:
        """Does what `Collection.update_metadata` says."""
        encoded_id, encoded = encode_id(identifier), encode_metadata(metadata).encode("utf-8")

        def run(transaction: RecordTransaction) -> WriteOutcome:
            error = contradiction(self._fields(), metadata)
            if error is not None:
                raise error
            return operations.update_metadata(transaction, encoded_id, encoded, metadata, if_version=if_version)

        return self._submit(
            run,
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

    def delete_matching(self, where: Condition, *, request_id: str) -> WriteOutcome:
        """Does what `Collection.delete_matching` says."""
        check_condition(where, self._fields())
        return self._submit(
            lambda transaction: operations.delete_matching(transaction, self._view(), where),
            request_id=request_id,
            digest=digest_ids("delete-matching", [repr(where).encode("utf-8", "surrogatepass")]),
            record_count=1,
        )

    def delete_expired(self, keys: Iterable[int]) -> WriteOutcome:
        """Deletes records that have expired, by key."""
        return self._writer.submit(lambda transaction: operations.delete_expired(transaction, keys))

    def _fields(self) -> tuple[FieldDefinition, ...]:
        return self._view().columns.definitions

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

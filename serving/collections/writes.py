"""Writing to a collection: records put, changed and deleted, each durable and seen once the call returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from serving.collections.config import CollectionsConfig
from serving.collections.expiry import Expiry
from serving.collections.filters.conditions import Condition
from serving.collections.index.derived import DerivedIndex
from serving.collections.pressure import write_delay_s
from serving.collections.types import MetadataValue, RecordWrite, WriteOutcome
from serving.collections.write_calls import WriteCalls

__all__ = ["CollectionWrites"]

SWEEP_RECORDS = 1_000
"""Expired records deleted in one write: callers' writes come in between."""


class CollectionWrites(ABC):
    """The calls that write; what they need, the collection has."""

    _config: CollectionsConfig
    _expiry: Expiry
    _index: DerivedIndex
    _write_calls: WriteCalls

    def upsert(
        self, writes: Sequence[RecordWrite], *, space: str, allow_partial: bool = False, request_id: str = ""
    ) -> WriteOutcome:
        """Writes records, in place of those of the same id.

        Args:
            writes: At most `MAX_BATCH_RECORDS`, each id once.
            space: Space their vectors belong to; empty where the collection is for raw vectors.
            allow_partial: Writes the good records although others are bad; otherwise all are written, or none.
            request_id: A repeated call under the same id is not done twice and returns the same.

        Returns:
            The new versions, and with `allow_partial` what was wrong with the others.

        Raises:
            SpaceMismatch: The vectors belong to another space, whatever their dimension.
            InvalidInput: Bad records (a subclass where all are bad in the same way); `item_errors` says which.
            VersionMismatch: An `if_version` did not hold; `item_errors` says which.
            StorageFull: The disk has no room.
        """
        self._check_in_service()
        return self._write_calls.upsert(writes, space=space, allow_partial=allow_partial, request_id=request_id)

    def update_metadata(
        self,
        identifier: str,
        metadata: Mapping[str, MetadataValue],
        *,
        if_version: int | None = None,
        request_id: str = "",
    ) -> WriteOutcome:
        """Replaces one record's metadata; its vector stays, its version rises.

        Args:
            identifier: Id of the record.
            metadata: All of its new metadata.
            if_version: Write only where the stored version equals this.
            request_id: As in `upsert`.

        Returns:
            The new version.

        Raises:
            RecordNotFound: There is no such record.
            VersionMismatch: It has another version.
            InvalidInput: The id or a metadata value cannot be stored.
            StorageFull: The disk has no room.
        """
        self._check_in_service()
        return self._write_calls.update_metadata(identifier, metadata, if_version=if_version, request_id=request_id)

    def delete(self, ids: Sequence[str], *, request_id: str = "") -> WriteOutcome:
        """Deletes records; ids that are not there are no error.

        Args:
            ids: At most `MAX_BATCH_RECORDS`.
            request_id: As in `upsert`.

        Returns:
            Per id the sequence of its deletion, 0 where there was nothing to delete.

        Raises:
            InvalidInput: Something is no id; `item_errors` says which.
            StorageFull: The disk has no room even for this.
        """
        self._check_in_service()
        return self._write_calls.delete(ids, request_id=request_id)

    def delete_matching(self, where: Condition, *, request_id: str = "") -> WriteOutcome:
        """Deletes the records for which a filter holds, in one commit.

        Args:
            where: The filter.
            request_id: As in `upsert`.

        Returns:
            Per deleted record the sequence of its deletion.

        Raises:
            InvalidInput: The declared fields cannot answer the filter.
            Corrupted: A record is damaged: nobody knows whether it matches.
            StorageFull: The disk has no room even for this.
        """
        self._check_in_service()
        return self._write_calls.delete_matching(where, request_id=request_id)

    def sweep(self, limit: int = SWEEP_RECORDS) -> int:
        """Deletes records that have expired; no call sees them any more as it is.

        Args:
            limit: Most records to delete in this one write.

        Returns:
            How many were deleted; fewer than the limit where there are no more.

        Raises:
            StorageFull: The disk has no room even for this.
        """
        self._check_in_service()
        due = self._expiry.due()[:limit].tolist()
        return len(self._write_calls.delete_expired(due).versions) if due else 0

    def write_delay_s(self, record_count: int) -> float:
        """Returns how long a write should wait, so that the index keeps up and searches stay fast.

        Args:
            record_count: Records of the write.

        Returns:
            Seconds; 0 where nothing is to be waited for.

        Raises:
            Overloaded: The index is too far behind for any write; `retry_after_s` says when to try again.
        """
        return write_delay_s(self._index.overhang(), record_count, self._config.tail_max_records)

    @abstractmethod
    def _check_in_service(self) -> None: ...

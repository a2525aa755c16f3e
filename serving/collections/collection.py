"""One collection: its record, the index derived from it, and the calls on both."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

from serving.collections.clock import SteadyClock
from serving.collections.config import CollectionsConfig
from serving.collections.database import close_database
from serving.collections.definition import Definition
from serving.collections.expiry import Expiry
from serving.collections.filters.conditions import Condition
from serving.collections.filters.fields import check_fields, new_fields
from serving.collections.index.derived import DerivedIndex
from serving.collections.reads import CollectionReads
from serving.collections.record_reader import RecordReader
from serving.collections.record_schema import open_records
from serving.collections.transaction import IndexChanges
from serving.collections.types import (
    CollectionInfo,
    FieldDefinition,
    IndexKind,
    MetadataValue,
    RecordWrite,
    WriteOutcome,
)
from serving.collections.write_calls import WriteCalls
from serving.collections.writer import Writer
from serving.errors import CollectionNotFound, Draining, Unavailable

__all__ = ["INDEX_FOLDER", "RECORDS_FILE", "Collection"]

RECORDS_FILE = "records.sqlite"
INDEX_FOLDER = "index"
SWEEP_RECORDS = 1_000
"""Expired records deleted in one write: callers' writes come in between."""


class Collection(CollectionReads):
    """Holds records of one embedding space; every call may come from any thread, and blocks.

    A write that returned is on the disk and seen by the next search. Searches and reads never wait for writes, nor for
    the index being rebuilt.

    Args:
        folder: The collection's own.
        definition: What it is.
        config: How it is kept.
        builders: Runs index builds.
        clock: Decides what has expired.
        create: Whether it is new; otherwise its files must be there.

    Raises:
        Corrupted: Its database is missing, damaged, or another collection's.
        FailedPrecondition: Its database was written by a newer diptych.
    """

    def __init__(
        self,
        folder: Path,
        definition: Definition,
        *,
        config: CollectionsConfig,
        builders: Executor,
        clock: SteadyClock | None = None,
        create: bool = False,
    ) -> None:
        spec = definition.spec
        clock = clock or SteadyClock()
        path = folder / RECORDS_FILE
        connection = open_records(path, spec, definition.uid, create=create, max_bytes=config.max_database_bytes)
        reader = RecordReader(path, dimension=spec.dimension, with_sources=spec.retain_source, name=spec.name)
        try:
            expiry = Expiry(reader.expiring(), clock)
            index = DerivedIndex(folder / INDEX_FOLDER, definition, reader=reader, config=config, builders=builders)
        except BaseException:
            reader.close()
            close_database(connection)
            raise
        super().__init__(definition, reader, index, expiry=expiry, clock=clock)
        self._writer = Writer(
            connection, name=spec.name, clock=clock, on_commit=self._on_commit, on_death=self._on_writer_death
        )
        self._write_calls = WriteCalls(
            spec, self._writer, lambda: self._index.view, remembered=config.remembered_requests
        )
        self.redefining = threading.Lock()
        """Held while the definition changes."""
        self._index.follow(self._writer)

    @property
    def definition(self) -> Definition:
        """What the catalogue knows of it."""
        return self._definition

    def info(self) -> CollectionInfo:
        """Returns the collection as it stands."""
        view = self._visible()
        return CollectionInfo(
            spec=self._definition.spec,
            create_time=self._definition.create_time,
            update_time=self._definition.update_time,
            record_count=view.record_count,
            sequence=view.sequence,
            indexed_count=view.base_alive_count,
            index_kind=IndexKind.EXACT if view.graph is None else IndexKind.HNSW,
        )

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

    def settle(self, timeout_s: float) -> bool:
        """Waits until no index build runs; searches need not wait for it.

        Args:
            timeout_s: Longest wait.

        Returns:
            Whether none runs.
        """
        return self._index.settle(timeout_s)

    def add_fields(self, fields: Sequence[FieldDefinition]) -> None:
        """Fills those of some fields that are new from the record; returns once filters may name them.

        Args:
            fields: Some, or all, that are declared already.

        Raises:
            InvalidInput: One cannot be declared.
            FailedPrecondition: One is declared with another type, or a record contradicts it.
            Corrupted: A record is damaged.
        """
        self._check_in_service()
        check_fields(fields)
        new = new_fields(self._definition.spec.fields, fields)
        if new:
            self._index.declare(new)

    def copy_records(self, target: Path, *, cancelled: Callable[[], bool]) -> None:
        """Copies the record as of one committed state, while writes go on.

        Args:
            target: Database file to make.
            cancelled: Asked often; where it says so, the copy ends early and is unusable.

        Raises:
            Corrupted: The record is damaged.
            StorageFull: The disk has no room.
        """
        self._check_in_service()
        self._reader.copy_to(target, cancelled=cancelled)

    def redefine(self, definition: Definition) -> None:
        """Takes over what the catalogue changed, and drops the fields that are declared no more.

        Args:
            definition: Of the same collection.
        """
        self._definition = definition
        self._index.keep_fields([field.name for field in definition.spec.fields])

    def close(self, *, deleted: bool = False) -> None:
        """Finishes accepted writes, gives up a running index build, and closes the files.

        Args:
            deleted: Whether the collection is gone; later calls then say so.
        """
        name = self._definition.spec.name
        self._refusal = (
            CollectionNotFound(f"there is no collection {name!r}", collection=name)
            if deleted
            else Draining(f"collection {name!r} is closed", collection=name)
        )
        self._index.close()
        self._reader.close()
        self._writer.close()

    def _on_commit(self, changes: IndexChanges, sequence: int) -> None:
        # In this order, so that no view shows a record that has expired: see `Expiry.visible`.
        self._expiry.expect(changes.expiring)
        self._index.on_commit(changes, sequence)
        self._expiry.forget(changes.unexpiring)

    def _on_writer_death(self, error: BaseException) -> None:
        # The index may lack what was committed last: no answer is better than one that misses an acknowledged record.
        name = self._definition.spec.name
        self._refusal = Unavailable(
            f"collection {name!r} has stopped ({type(error).__name__}); see the server's log and restart it",
            collection=name,
        )

"""One collection: its record, the index derived from it, and the calls on both."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.collections.config import MAX_PAGE_RECORDS, CollectionsConfig
from serving.collections.definition import Definition
from serving.collections.index.derived import DerivedIndex
from serving.collections.index.status import index_status
from serving.collections.index.view import Found, IndexView
from serving.collections.pressure import write_delay_s
from serving.collections.recall import RecallMeter
from serving.collections.record_reader import RecordReader
from serving.collections.record_schema import open_records
from serving.collections.scrub import Pace, scrub
from serving.collections.search import check_k, check_sequence, hits_with_records, hits_without_records
from serving.collections.transaction import IndexChanges
from serving.collections.types import (
    CollectionInfo,
    Hits,
    MetadataValue,
    Record,
    RecordWrite,
    WriteOutcome,
)
from serving.collections.validation import encode_id, encode_ids
from serving.collections.vectors import check_space, prepare_queries
from serving.collections.write_calls import WriteCalls
from serving.collections.writer import Writer
from serving.errors import CollectionNotFound, Corrupted, Draining, InvalidInput, ServingError, Unavailable

__all__ = ["Collection"]

logger = logging.getLogger(__name__)

RECORDS_FILE = "records.sqlite"
INDEX_FOLDER = "index"


class Collection:
    """Holds records of one embedding space; every call may come from any thread, and blocks.

    A write that returned is on the disk and seen by the next search. Searches and reads never wait for writes, nor for
    the index being rebuilt.

    Args:
        folder: The collection's own.
        definition: What it is.
        config: How it is kept.
        builders: Runs index builds.
        create: Whether it is new; otherwise its files must be there.
        on_health: Told the name and whether all of the collection answers, whenever that may have changed.

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
        create: bool = False,
        on_health: Callable[[str, bool], None] = lambda _name, _healthy: None,
    ) -> None:
        spec = definition.spec
        self._definition = definition
        self._config = config
        self._on_health = on_health
        self.recall = RecallMeter()
        """What its searches find of what there is."""
        self.recall.target_recall = spec.index.target_recall
        self._refusal: ServingError | None = None
        path = folder / RECORDS_FILE
        connection = open_records(path, spec, definition.uid, create=create, max_bytes=config.max_database_bytes)
        self._reader = RecordReader(path, dimension=spec.dimension, with_sources=spec.retain_source, name=spec.name)
        try:
            self._index = DerivedIndex(
                folder / INDEX_FOLDER, definition, reader=self._reader, config=config, builders=builders
            )
        except BaseException:
            self._reader.close()
            connection.close(True)
            raise
        self._writer = Writer(connection, name=spec.name, on_commit=self._on_commit, on_death=self._on_writer_death)
        self._write_calls = WriteCalls(spec, self._writer, remembered=config.remembered_requests)
        self._index.follow(self._writer)

    @property
    def definition(self) -> Definition:
        """What the catalogue knows of it."""
        return self._definition

    @property
    def is_healthy(self) -> bool:
        """Whether all of it answers: no record is damaged, and writes and searches are accepted."""
        return self._refusal is None and not self._index.view.damaged

    def info(self) -> CollectionInfo:
        """Returns the collection as it stands."""
        view = self._index.view
        return CollectionInfo(
            spec=self._definition.spec,
            create_time=self._definition.create_time,
            update_time=self._definition.update_time,
            record_count=view.record_count,
            sequence=view.sequence,
            index=index_status(self._definition.spec, view, self._index, self._config, self.recall.estimate()),
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

    def get(self, ids: Sequence[str], *, min_sequence: int = 0) -> list[Record | None]:
        """Returns records by id.

        Args:
            ids: At most `MAX_BATCH_RECORDS`.
            min_sequence: A sequence this collection has returned; what it wrote is seen.

        Returns:
            Per id its record, `None` where there is none.

        Raises:
            InvalidInput: Something is no id.
            Corrupted: A record is not what was written.
            VersionMismatch: `min_sequence` lies in the future.
        """
        self._check_in_service()
        encoded = encode_ids(ids)
        check_sequence(min_sequence, self._index.view.sequence)
        records = self._reader.by_ids(tuple(set(encoded)))
        return [records.get(identifier) for identifier in encoded]

    def count(self) -> int:
        """Returns how many records the collection holds."""
        self._check_in_service()
        return self._index.view.record_count

    def search(
        self,
        queries: NDArray[np.float32],
        *,
        space: str,
        k: int,
        exact: bool = False,
        score_threshold: float | None = None,
        with_records: bool = False,
        min_sequence: int = 0,
    ) -> list[Hits]:
        """Returns the nearest records of each query, as of one committed state.

        Args:
            queries: `[m, d]`, at most `MAX_QUERIES`.
            space: Space they belong to; empty where the collection is for raw vectors.
            k: Neighbours a query, in [1, `MAX_K`].
            exact: Scores every record, whatever index there is.
            score_threshold: Leaves out lower scores.
            with_records: Returns the records too.
            min_sequence: A sequence this collection has returned; what it wrote is seen.

        Returns:
            One entry a query, best first; equal scores in the order in which their vectors were written.

        Raises:
            SpaceMismatch: The queries belong to another space, whatever their dimension.
            DimensionMismatch: They have another width.
            InvalidInput: A query is zero (cosine), NaN or infinite; or k is below 1.
            InputTooLarge: k or the number of queries is over its limit.
            VersionMismatch: `min_sequence` lies in the future.
            Corrupted: A record that might belong into the answer is damaged.
        """
        self._check_in_service()
        spec = self._definition.spec
        check_space(spec, space)
        prepared = prepare_queries(spec, queries)
        check_k(k, score_threshold)
        check_sequence(min_sequence, self._index.view.sequence)

        def search(view: IndexView) -> list[Found]:
            found = view.search(prepared, k, exact=exact, score_threshold=score_threshold)
            if not exact and score_threshold is None and found:
                self.recall.offer(view, prepared, k, found)
            return found

        if with_records:
            return hits_with_records(lambda: self._index.view, search, self._reader)
        return hits_without_records(search(self._index.view))

    def settle(self, timeout_s: float) -> bool:
        """Waits until no index build runs; searches need not wait for it.

        Args:
            timeout_s: Longest wait.

        Returns:
            Whether none runs.
        """
        return self._index.settle(timeout_s)

    def scrub(self, pace: Pace) -> None:
        """Compares what is stored with its checksums; damage is repaired from the record, or taken out of service.

        Args:
            pace: How fast.
        """
        try:
            scrub(self._index, self._reader, self._definition.spec.dimension, pace)
        except Corrupted as error:
            detail = {"collection": self._definition.spec.name, "detail": error.message}
            logger.critical("collection is out of service", extra=detail)
            self._refusal = error
        self._tell()

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

    def list(self, *, page_size: int, after_id: str = "") -> list[Record]:
        """Returns records in the bytewise order of their ids.

        Args:
            page_size: Most records to return, at least 1; above `MAX_PAGE_RECORDS` it is taken as that.
            after_id: Where the last page ended; empty: from the beginning.

        Returns:
            Fewer than asked for only at the end.

        Raises:
            InvalidInput: `page_size` is below 1, or `after_id` is no id.
            Corrupted: A record is not what was written.
        """
        self._check_in_service()
        if page_size < 1:
            raise InvalidInput(f"page_size ({page_size}) must be at least 1", page_size=page_size)
        return self._reader.page(encode_id(after_id) if after_id else b"", min(page_size, MAX_PAGE_RECORDS))

    def redefine(self, definition: Definition) -> None:
        """Takes over what the catalogue changed.

        Args:
            definition: Of the same collection.
        """
        self._definition = definition
        self._index.respec(definition.spec)
        self.recall.target_recall = definition.spec.index.target_recall

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

    def _check_in_service(self) -> None:
        if self._refusal is not None:
            raise type(self._refusal)(self._refusal.message, **self._refusal.metadata)

    def _on_commit(self, changes: IndexChanges, sequence: int) -> None:
        was_healthy = self.is_healthy
        self._index.on_commit(changes, sequence)
        if not was_healthy:
            self._tell()

    def _tell(self) -> None:
        self._on_health(self._definition.spec.name, self.is_healthy)

    def _on_writer_death(self, error: BaseException) -> None:
        # The index may lack what was committed last: no answer is better than one that misses an acknowledged record.
        name = self._definition.spec.name
        self._refusal = Unavailable(
            f"collection {name!r} has stopped ({type(error).__name__}); see the server's log and restart it",
            collection=name,
        )
        self._tell()

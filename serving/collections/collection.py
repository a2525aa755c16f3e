"""One collection: its record, the index derived from it, and the calls on both."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path

from serving.collections.clock import SteadyClock
from serving.collections.config import CollectionsConfig
from serving.collections.database import close_database
from serving.collections.definition import Definition
from serving.collections.expiry import Expiry
from serving.collections.filters.fields import check_fields, new_fields
from serving.collections.index.derived import DerivedIndex
from serving.collections.index.status import index_status
from serving.collections.reads import CollectionReads
from serving.collections.record_reader import RecordReader
from serving.collections.record_schema import open_records
from serving.collections.scrub import Pace, scrub
from serving.collections.transaction import IndexChanges
from serving.collections.types import (
    CollectionInfo,
    FieldDefinition,
)
from serving.collections.write_calls import WriteCalls
from serving.collections.writer import Writer
from serving.collections.writes import CollectionWrites
from serving.errors import CollectionNotFound, Corrupted, Draining, Unavailable

__all__ = ["INDEX_FOLDER", "RECORDS_FILE", "Collection"]

logger = logging.getLogger(__name__)

RECORDS_FILE = "records.sqlite"
INDEX_FOLDER = "index"


class Collection(CollectionReads, CollectionWrites):
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
        clock: SteadyClock | None = None,
        create: bool = False,
        on_health: Callable[[str, bool], None] = lambda _name, _healthy: None,
    ) -> None:
        spec = definition.spec
        clock = clock or SteadyClock()
        self._on_health = on_health
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
        self._config = config
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

    @property
    def is_healthy(self) -> bool:
        """Whether all of it answers: no record is damaged, and writes and searches are accepted."""
        return self._refusal is None and not self._index.view.damaged

    def info(self) -> CollectionInfo:
        """Returns the collection as it stands."""
        view = self._visible()
        return CollectionInfo(
            spec=self._definition.spec,
            create_time=self._definition.create_time,
            update_time=self._definition.update_time,
            record_count=view.record_count,
            sequence=view.sequence,
            index=index_status(self._definition.spec, view, self._index, self._config, self.recall.estimate()),
        )

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
        self._index.respec(definition.spec)
        self._index.keep_fields([field.name for field in definition.spec.fields])
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

    def _on_commit(self, changes: IndexChanges, sequence: int) -> None:
        was_healthy = self.is_healthy
        # In this order, so that no view shows a record that has expired: see `Expiry.visible`.
        self._expiry.expect(changes.expiring)
        self._index.on_commit(changes, sequence)
        self._expiry.forget(changes.unexpiring)
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

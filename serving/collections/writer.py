"""One thread writes a collection: whatever queued while it was committing is its next commit."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import apsw

from serving.collections.clock import SteadyClock
from serving.collections.database import storage_error
from serving.collections.record_schema import read_sequence, write_sequence
from serving.collections.transaction import IndexChanges, RecordTransaction
from serving.errors import Draining, ServingError, Unavailable

__all__ = ["Writer"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_GROUP_RECORDS = 10_000
_CHECKPOINT_PAGES = 1_024
"""WAL pages (16 MiB) from which the writer checkpoints."""


@dataclass(slots=True)
class _Write:
    """One caller's batch: all of it is committed, or none."""

    run: Callable[[RecordTransaction], Any]
    record_count: int
    done: Future[Any] = field(default_factory=Future)
    result: Any = None

    def fail(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(slots=True)
class _Errand:
    """Something done between commits, outside any transaction."""

    run: Callable[[], Any]
    done: Future[Any] = field(default_factory=Future)

    def fail(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Writer:
    """Commits callers' batches in groups, each batch in a savepoint of its own, and checkpoints.

    A caller returns when its batch is durable and `on_commit` has run. If the thread dies, its callers and all later
    ones get an error.

    Args:
        connection: To the collection's database; the writer owns and closes it.
        name: The collection's name, for messages.
        clock: Tells the time of each commit.
        on_commit: Told, in order and in the writer's thread, what each commit changed and the sequence it reached.
        on_death: Told once if the thread dies of something unforeseen.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        name: str,
        clock: SteadyClock,
        on_commit: Callable[[IndexChanges, int], None],
        on_death: Callable[[BaseException], None],
    ) -> None:
        self._connection = connection
        self._name = name
        self._clock = clock
        self._on_commit = on_commit
        self._on_death = on_death
        self._sequence = read_sequence(connection)
        self._queue: queue.SimpleQueue[_Write | _Errand | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._refusal: Callable[[], ServingError] | None = None
        self._wal_pages = 0
        connection.set_wal_hook(self._note_wal)
        self._thread = threading.Thread(target=self._run, name=f"writer-{name}", daemon=True)
        self._thread.start()

    def submit(self, run: Callable[[RecordTransaction], T], *, record_count: int = 1) -> T:
        """Runs a write and returns once it is durable.

        Args:
            run: Does the write; whatever it raises undoes it and reaches the caller.
            record_count: Its size, which bounds the group.

        Returns:
            What `run` returned.

        Raises:
            StorageFull: The disk has no room; nothing of this write was kept.
            Unavailable: The writer is closed or has died.
        """
        write = _Write(run, record_count)
        self._put(write)
        result: T = write.done.result()
        return result

    def between_commits(self, run: Callable[[], T]) -> T:
        """Runs something in the writer's thread while no transaction is open.

        Args:
            run: What to do.

        Returns:
            What `run` returned.

        Raises:
            Unavailable: The writer is closed or has died.
        """
        errand = _Errand(run)
        self._put(errand)
        result: T = errand.done.result()
        return result

    def close(self) -> None:
        """Finishes what was submitted, folds the log into the database and closes it; closing twice is harmless."""
        with self._gate:
            if self._refusal is None:
                self._refusal = self._closed
                self._queue.put(None)
        self._thread.join()

    def _put(self, item: _Write | _Errand) -> None:
        with self._gate:
            if self._refusal is not None:
                raise self._refusal()
            self._queue.put(item)

    def _closed(self) -> ServingError:
        return Draining(f"collection {self._name!r} is closed", collection=self._name)

    def _died(self) -> ServingError:
        message = f"the writer of collection {self._name!r} has stopped; see the server's log and restart it"
        return Unavailable(message, collection=self._name)

    def _note_wal(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _run(self) -> None:
        waiting: list[_Write | _Errand] = []
        try:
            while self._serve_one_group(waiting):
                self._checkpoint_if_due()
        except BaseException as error:
            logger.critical("writer died", exc_info=True, extra={"collection": self._name})
            self._on_death(error)
        finally:
            self._finish(waiting)

    def _serve_one_group(self, waiting: list[_Write | _Errand]) -> bool:
        item = self._queue.get()
        if item is None:
            return False
        waiting.append(item)
        if isinstance(item, _Errand):
            self._run_errand(item)
            waiting.clear()
            return True
        more = self._gather(waiting)
        group = [entry for entry in waiting if isinstance(entry, _Write)]
        self._commit(group)
        for errand in waiting[len(group) :]:
            assert isinstance(errand, _Errand)
            self._run_errand(errand)
        waiting.clear()
        return more

    def _gather(self, waiting: list[_Write | _Errand]) -> bool:
        """Adds what is queued already, up to the group's bound or the first errand; false at the end of the queue."""
        size = 0
        while size < _GROUP_RECORDS:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return True
            if item is None:
                return False
            waiting.append(item)
            if isinstance(item, _Errand):
                return True
            size += item.record_count
        return True

    def _run_errand(self, errand: _Errand) -> None:
        try:
            errand.done.set_result(errand.run())
        except Exception as error:
            errand.fail(error)

    def _commit(self, group: list[_Write]) -> None:
        transaction = RecordTransaction(self._connection, self._sequence, now_us=self._clock.now_us())
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for write in group:
                self._run_in_savepoint(write, transaction)
            write_sequence(self._connection, transaction.sequence)
            self._connection.execute("COMMIT")
        except apsw.Error as error:
            self._abandon(group, error)
            return
        self._sequence = transaction.sequence
        self._on_commit(transaction.changes, transaction.sequence)
        for write in group:
            if not write.done.done():
                write.done.set_result(write.result)

    def _run_in_savepoint(self, write: _Write, transaction: RecordTransaction) -> None:
        mark, sequence = transaction.changes.mark(), transaction.sequence
        self._connection.execute("SAVEPOINT caller")
        try:
            write.result = write.run(transaction)
        except Exception as error:
            if isinstance(error, apsw.Error) and not self._connection.in_transaction:
                raise
            self._connection.execute("ROLLBACK TO caller")
            transaction.changes.rewind(mark)
            transaction.sequence = sequence
            write.fail(self._translated(error))
        self._connection.execute("RELEASE caller")

    def _abandon(self, group: list[_Write], error: apsw.Error) -> None:
        logger.error("commit failed", exc_info=error, extra={"collection": self._name})
        failures = [self._translated(error) for _ in group]
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        for write, failure in zip(group, failures, strict=True):
            write.fail(failure)

    def _translated(self, error: Exception) -> Exception:
        if isinstance(error, apsw.Error):
            translated = storage_error(error, f"collection {self._name!r}", self._connection)
            translated.__cause__ = error
            return translated
        return error

    def _checkpoint_if_due(self) -> None:
        if self._wal_pages >= _CHECKPOINT_PAGES:
            self._checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _checkpoint(self, mode: int) -> None:
        try:
            self._connection.wal_checkpoint(mode=mode)
        except apsw.Error:
            # The log keeps what the database could not take; nothing is lost, and the next one tries again.
            logger.warning("checkpoint failed", exc_info=True, extra={"collection": self._name})
        self._wal_pages = 0

    def _finish(self, waiting: list[_Write | _Errand]) -> None:
        with self._gate:
            if self._refusal is None:
                self._refusal = self._died
        while not self._queue.empty():
            item = self._queue.get()
            if item is not None:
                waiting.append(item)
        for item in waiting:
            item.fail(self._refusal())
        self._close_connection()

    def _close_connection(self) -> None:
        try:
            if not self._connection.in_transaction:
                self._checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self._connection.close(True)
        except apsw.Error:
            logger.warning("database did not close cleanly", exc_info=True, extra={"collection": self._name})

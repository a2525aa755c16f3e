"""The index of one collection and all that keeps it fresh, behind one name."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path

from serving.collections.columns.load import ColumnScan
from serving.collections.config import CollectionsConfig
from serving.collections.definition import Definition
from serving.collections.index.ann.effort import effort_of
from serving.collections.index.base import Base, remove_others
from serving.collections.index.draft import build_base
from serving.collections.index.live import LiveIndex
from serving.collections.index.load import load_index
from serving.collections.index.rebuild import Rebuilder, what_is_due
from serving.collections.index.view import IndexView
from serving.collections.record_reader import RecordReader
from serving.collections.record_schema import read_sequence
from serving.collections.transaction import IndexChanges
from serving.collections.types import CollectionSpec, FieldDefinition
from serving.collections.writer import Writer
from serving.errors import Draining

__all__ = ["DerivedIndex"]

logger = logging.getLogger(__name__)


class DerivedIndex:
    """Follows the record, rebuilds its base in the background when that pays, and reads it anew when it is damaged.

    Args:
        folder: The index's own; whatever is in it can be rebuilt.
        definition: The collection.
        reader: Reads its record.
        config: How it is kept.
        builders: Runs index builds.
    """

    def __init__(
        self,
        folder: Path,
        definition: Definition,
        *,
        reader: RecordReader,
        config: CollectionsConfig,
        builders: Executor,
    ) -> None:
        self._folder = folder
        self._reader = reader
        self._config = config
        self._spec = definition.spec
        self._load = partial(load_index, folder, uid=definition.uid, reader=reader, config=config)
        self._live: LiveIndex = self._load(spec=self._spec)
        self._writer: Writer | None = None
        self._rebuilder = Rebuilder(
            due=lambda: what_is_due(self._live, self._spec, config),
            build=lambda progress: build_base(
                folder, spec=self._spec, uid=definition.uid, reader=reader, config=config, progress=progress
            ),
            install=self._install,
            executor=builders,
            retry_records=config.tail_min_records,
            pending=lambda: self._live.tail_row_count,
        )
        self._watch_vectors()

    @property
    def view(self) -> IndexView:
        """The last committed state."""
        return self._live.view

    @property
    def base(self) -> Base | None:
        """The base in use, if any."""
        return self._live.base

    @property
    def progress(self) -> float | None:
        """How far the running build is, in [0, 1]; `None` where none runs."""
        return self._rebuilder.progress

    def overhang(self) -> int:
        """Returns how many rows the tail is longer than it may be while a build runs; 0 where none does."""
        started_at = self._rebuilder.started_at
        if started_at is None:
            return 0
        return max(0, self._live.tail_row_count - max(started_at, self._config.tail_max_records))

    def follow(self, writer: Writer) -> None:
        """Begins to rebuild where that is due; the swaps happen in the writer's thread.

        Args:
            writer: The collection's.
        """
        self._writer = writer
        self._rebuilder.consider(self.view.sequence)

    def respec(self, spec: CollectionSpec) -> None:
        """Takes over a changed definition: searches change at once, the index once it is rebuilt.

        Args:
            spec: Of the same collection.
        """
        old, self._spec = self._spec, spec
        if spec.index == old.index:
            return
        base = self._live.base
        if base is not None and base.graph is not None:
            base.graph.effort = effort_of(base.graph.plan, spec.index, self._config)
        self._rebuilder.consider(self.view.sequence, anew=True)

    def on_commit(self, changes: IndexChanges, sequence: int) -> None:
        """Shows a commit to the next search.

        Args:
            changes: What it did.
            sequence: What it reached.
        """
        self._live.apply(changes, sequence)
        if self._writer is not None:
            self._rebuilder.consider(sequence)

    def declare(self, fields: Sequence[FieldDefinition]) -> None:
        """Adds fields that filters may name, filled from the record; returns once the next search may use them.

        Args:
            fields: New ones.

        Raises:
            FailedPrecondition: A record contradicts one of them.
            Corrupted: A record is damaged.
        """
        scan = ColumnScan(fields, declaring=True)
        with self._reader.snapshot() as connection:
            sequence = read_sequence(connection)
            scan.read(self._reader.scan(connection, after_key=0))

        def finish() -> None:
            with self._reader.snapshot() as connection:
                scan.catch_up(self._reader.written_after(connection, sequence))
            self._live.declare(scan.columns, scan.keys)

        self._between_commits(finish)

    def keep_fields(self, names: Iterable[str]) -> None:
        """Drops all other fields.

        Args:
            names: Those that stay.
        """
        kept = frozenset(names)
        if all(field.name in kept for field in self.view.columns.definitions):
            return
        self._between_commits(lambda: self._live.keep_fields(kept))

    def drop_index(self, base: Base) -> None:
        """Stops asking an index whose file is damaged: its rows are compared one by one until it is rebuilt.

        Args:
            base: Whose index; nothing happens where another took its place meanwhile.
        """
        self._between_commits(lambda: self._live.drop_index() if self._live.base is base else None)
        self._rebuilder.consider(self.view.sequence, anew=True)

    def mark_damaged(self, key: int, identifier: str, still_so: Callable[[], bool]) -> None:
        """Takes searches out of service until a damaged record is written anew or deleted.

        Args:
            key: Of its vector.
            identifier: Its id, for messages.
            still_so: Whether it is still there and damaged; asked between two commits.
        """
        self._between_commits(lambda: self._live.mark_damaged(key, identifier) if still_so() else None)

    def read_anew(self, damaged: Base | None) -> None:
        """Reads every record into memory in place of a damaged base, which is then rebuilt.

        Args:
            damaged: The base; nothing happens where another took its place meanwhile.
        """
        if damaged is None or self._live.base is not damaged:
            return
        logger.error("index is damaged and will be rebuilt", extra={"folder": str(damaged.folder), "detail": "vectors"})
        self._between_commits(self._load_from_record)
        self._rebuilder.consider(self.view.sequence, anew=True)
        shutil.rmtree(damaged.folder, ignore_errors=True)

    def settle(self, timeout_s: float) -> bool:
        """Waits until no build runs.

        Args:
            timeout_s: Longest wait.

        Returns:
            Whether none runs.
        """
        return self._rebuilder.settle(timeout_s)

    def close(self) -> None:
        """Gives up a running build; the writer must still be there."""
        self._rebuilder.close()

    def _install(self, base: Base | None) -> None:
        self._between_commits(lambda: self._live.drop_base() if base is None else self._live.adopt(base))
        self._watch_vectors()
        remove_others(self._folder, base)
        records = 0 if base is None else len(base.rows)
        reason = base.reason if base is not None else ""
        detail = {"collection": self._spec.name, "records": records, "detail": reason}
        logger.info("index swapped in", extra=detail)

    def _watch_vectors(self) -> None:
        base = self._live.base
        if base is not None and base.rows.guard is not None:
            # Whoever finds the damage is answered at once; reading the record anew may take a while.
            base.rows.guard.on_damage = lambda: threading.Thread(
                target=self._heal, args=(base,), name="index-reader", daemon=True
            ).start()

    def _heal(self, damaged: Base) -> None:
        try:
            self.read_anew(damaged)
        except Draining:
            logger.debug("damaged index left to the next start")
        except Exception:
            logger.exception("damaged index could not be read anew")

    def _load_from_record(self) -> None:
        # The fields of now: one may be declared already, and not yet part of the definition.
        spec = replace(self._spec, fields=self.view.columns.definitions)
        self._live = self._load(spec=spec, from_record=True)

    def _between_commits(self, run: Callable[[], None]) -> None:
        assert self._writer is not None
        self._writer.between_commits(run)

"""The index of one collection and all that keeps it fresh, behind one name."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path

from serving.collections.columns.load import ColumnScan
from serving.collections.config import CollectionsConfig
from serving.collections.definition import Definition
from serving.collections.index.base import Base, remove_others
from serving.collections.index.draft import build_base
from serving.collections.index.load import load_index
from serving.collections.index.rebuild import Rebuilder, what_is_due
from serving.collections.index.view import IndexView
from serving.collections.record_reader import RecordReader
from serving.collections.record_schema import read_sequence
from serving.collections.transaction import IndexChanges
from serving.collections.types import FieldDefinition
from serving.collections.writer import Writer

__all__ = ["DerivedIndex"]

logger = logging.getLogger(__name__)


class DerivedIndex:
    """Follows the record, and rebuilds its base in the background when that pays.

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
        spec = definition.spec
        self._folder = folder
        self._reader = reader
        self._name = spec.name
        self._live = load_index(folder, spec=spec, uid=definition.uid, reader=reader, config=config)
        self._writer: Writer | None = None
        self._rebuilder = Rebuilder(
            due=lambda: what_is_due(self._live, spec.index, config),
            build=lambda cancelled: build_base(
                folder, spec=spec, uid=definition.uid, reader=reader, config=config, cancelled=cancelled
            ),
            install=self._install,
            executor=builders,
            retry_records=config.tail_min_records,
        )

    @property
    def view(self) -> IndexView:
        """The last committed state."""
        return self._live.view

    def follow(self, writer: Writer) -> None:
        """Begins to rebuild where that is due; the swaps happen in the writer's thread.

        Args:
            writer: The collection's.
        """
        self._writer = writer
        self._rebuilder.consider(self.view.sequence)

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

        assert self._writer is not None
        self._writer.between_commits(finish)

    def keep_fields(self, names: Iterable[str]) -> None:
        """Drops all other fields.

        Args:
            names: Those that stay.
        """
        kept = frozenset(names)
        if all(field.name in kept for field in self.view.columns.definitions):
            return
        assert self._writer is not None
        self._writer.between_commits(lambda: self._live.keep_fields(kept))

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
        assert self._writer is not None
        self._writer.between_commits(self._live.drop_base if base is None else lambda: self._live.adopt(base))
        remove_others(self._folder, base)
        records = 0 if base is None else len(base.rows)
        logger.info("index swapped in", extra={"collection": self._name, "records": records})

"""`diptych records upsert|get|list|count|delete`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from diptych.cli.connection import Connection
from diptych.cli.inputs import RecordInput, read_records
from diptych.cli.printing import plain, print_json, print_table

if TYPE_CHECKING:
    from diptych.client.arguments import UpsertArguments
    from diptych.client.sync import Client
    from diptych.client.types import Record

__all__ = ["Count", "Delete", "Get", "List", "Upsert"]

Server = Annotated[Connection, tyro.conf.OmitArgPrefixes]
LONGEST_S = 1000 * 365 * 86_400
BATCH = 256
"""Records of one write: enough to keep an encoder busy, few enough to show progress."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Upsert:
    """Writes records from texts, images or vectors, in place of those of the same id.

    Files may be images, .jsonl (one object a line: text, image or vector; id; metadata; expire_time) or texts, one a
    line; folders are walked; - is standard input.
    """

    collection: Annotated[str, tyro.conf.Positional]
    """The collection's name."""
    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """What to write."""
    space: str = ""
    """Embedding space of vectors."""
    expire_after_s: float | None = None
    """Seconds after which the records end, those apart that state an expire_time; never where unset."""
    json: bool = False
    """Print JSON instead of a line."""
    connection: Server = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Writes batch after batch; each is durable once it is counted."""
        from rich.console import Console
        from rich.progress import Progress

        written, sequence = 0, 0
        expire_time = _expire_time(self.expire_after_s)
        console = Console(stderr=True)
        with (
            self.connection.open() as client,
            Progress(console=console, disable=not console.is_terminal, transient=True) as progress,
        ):
            task = progress.add_task("writing records", total=None)
            for batch in _batches(read_records(self.files)):
                sequence = _write(client, self.collection, batch, self.space, expire_time)
                written += len(batch)
                progress.update(task, completed=written, description=f"{written} records written")
        if not written:
            raise ValueError("the files hold no record")
        if self.json:
            print_json({"written": written, "sequence": sequence})
        else:
            print(f"wrote {written} records to '{self.collection}' (sequence {sequence})")
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Get:
    """Shows records by id; exit code 1 where one is missing."""

    collection: Annotated[str, tyro.conf.Positional]
    """The collection's name."""
    ids: Annotated[tuple[str, ...], tyro.conf.Positional]
    """The records' ids."""
    vectors: bool = False
    """Show vectors too."""
    json: bool = False
    """Print JSON instead of a table."""
    connection: Server = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Prints them in the order given."""
        import sys

        with self.connection.open() as client:
            found = client.get(self.collection, self.ids, with_vectors=self.vectors)
        _show([record for record in found if record is not None], as_json=self.json, vectors=self.vectors)
        missing = [identifier for identifier, record in zip(self.ids, found, strict=True) if record is None]
        if missing:
            print(f"not in '{self.collection}': {', '.join(missing)}", file=sys.stderr)
        return 1 if missing else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class List:
    """Lists records by the bytes of their ids."""

    collection: Annotated[str, tyro.conf.Positional]
    """The collection's name."""
    filter: str | None = None
    """List only records for which this holds, as 'price >= 10 and tag in ("a", "b")'."""
    limit: int = 100
    """Most records to list; 0 lists all."""
    vectors: bool = False
    """Show vectors too."""
    json: bool = False
    """Print JSON instead of a table."""
    connection: Server = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Prints them."""
        with self.connection.open() as client:
            every = client.records(self.collection, filter=self.filter, with_vectors=self.vectors)
            found = list(islice(every, self.limit or None))
        _show(found, as_json=self.json, vectors=self.vectors)
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """Counts the records of a collection."""

    collection: Annotated[str, tyro.conf.Positional]
    """The collection's name."""
    filter: str | None = None
    """Count only records for which this holds, as 'price >= 10 and tag in ("a", "b")'."""
    json: bool = False
    """Print JSON instead of a number."""
    connection: Server = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Prints their number."""
        with self.connection.open() as client:
            count = client.count(self.collection, filter=self.filter)
        if self.json:
            print_json({"collection": self.collection, "record_count": count})
        else:
            print(count)
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Delete:
    """Deletes records by id, or all for which a filter holds; ids that are not there are no error."""

    collection: Annotated[str, tyro.conf.Positional]
    """The collection's name."""
    ids: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """The records' ids."""
    filter: str | None = None
    """Delete, in place of ids, the records for which this holds, as 'price >= 10 and tag in ("a", "b")'."""
    json: bool = False
    """Print JSON instead of a line."""
    connection: Server = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Deletes them."""
        with self.connection.open() as client:
            result = client.delete(self.collection, self.ids or None, filter=self.filter)
        if self.json:
            print_json(result)
        else:
            print(f"deleted {result.deleted_count} records of '{self.collection}'")
        return 0


def _batches(records: Iterator[RecordInput]) -> Iterator[list[RecordInput]]:
    """Yields runs of records of one kind: a write holds texts, images or vectors."""
    for _, run in groupby(records, key=lambda record: type(record.content)):
        while batch := list(islice(run, BATCH)):
            yield batch


def _expire_time(expire_after_s: float | None) -> datetime | None:
    if expire_after_s is None:
        return None
    if not 0 < expire_after_s < LONGEST_S:
        raise ValueError(f"expire-after-s ({expire_after_s}) must be above 0 and at most a thousand years")
    return datetime.now(UTC) + timedelta(seconds=expire_after_s)


def _write(
    client: Client, collection: str, batch: Sequence[RecordInput], space: str, expire_time: datetime | None
) -> int:
    ids = [record.id for record in batch]
    arguments: UpsertArguments = {"metadata": [record.metadata for record in batch]}
    expire_times = [record.expire_time or expire_time for record in batch]
    if any(expire_times):
        arguments["expire_times"] = expire_times
    texts = [record.content for record in batch if isinstance(record.content, str)]
    images = [record.content for record in batch if isinstance(record.content, Path)]
    if texts:
        arguments["texts"] = texts
    elif images:
        arguments["images"] = images
    else:
        arguments["vectors"] = [record.content for record in batch if isinstance(record.content, list)]
        arguments["space"] = space
    return client.upsert(collection, ids, **arguments).sequence


def _show(found: Sequence[Record], *, as_json: bool, vectors: bool) -> None:
    if as_json:
        print_json(found)
        return
    columns: dict[str, list[object]] = {
        "id": [record.id for record in found],
        "version": [record.version for record in found],
        "metadata": [plain(record.metadata) or "" for record in found],
    }
    if any(record.expire_time for record in found):
        columns["expires"] = [record.expire_time and record.expire_time.isoformat() for record in found]
    if vectors:
        columns["vector"] = [plain(record.vector) for record in found]
    print_table(list(columns), list(zip(*columns.values(), strict=True)))

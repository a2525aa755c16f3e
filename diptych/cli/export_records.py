"""`diptych collections export`: a collection's records as Parquet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from diptych.cli.connection import Connection
from diptych.cli.job_progress import record_counter
from diptych.cli.parquet_form import RecordSchema, require_pyarrow, schema_for, table_of
from diptych.cli.printing import print_json

if TYPE_CHECKING:
    from diptych.client.types import Record

__all__ = ["Export"]

PAGE_RECORDS = 500
GROUP_RECORDS = 5_000
"""Records of a row group: what is held in memory at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """Writes a collection's records to a Parquet file, or to a folder of shards.

    Records are read page by page: what is written meanwhile may be in it or not. For one moment of the whole, take a
    snapshot.
    """

    name: Annotated[str, tyro.conf.Positional]
    """The collection's name."""
    out: Annotated[Path, tyro.conf.Positional]
    """A new file that ends in .parquet, or a new or empty folder."""
    sources: bool = False
    """Write retained sources too."""
    shard_records: int = 100_000
    """Records of a shard, where a folder is written."""
    json: bool = False
    """Print JSON instead of a line."""
    connection: Annotated[Connection, tyro.conf.OmitArgPrefixes] = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Streams them into files, each of which appears whole."""
        require_pyarrow()
        if self.shard_records < 1:
            raise ValueError(f"shard_records ({self.shard_records}) must be at least 1")
        is_file = self.out.suffix == ".parquet"
        _check_is_new(self.out)
        with self.connection.open() as client, record_counter(f"exporting '{self.name}'") as advance:
            collection = client.collection(self.name)
            every = client.records(
                self.name, page_size=PAGE_RECORDS, with_vectors=True, with_metadata=True, with_sources=self.sources
            )
            first = list(islice(every, GROUP_RECORDS))
            chosen = schema_for(collection, first, sources=self.sources)
            records = _chained(first, every)
            paths: list[Path] = []
            count = 0
            while not paths or first:
                path = self.out if is_file else self.out / f"records-{len(paths):05d}.parquet"
                shard = _write(path, records if is_file else islice(records, self.shard_records), chosen, advance)
                count += shard
                paths.append(path)
                first = [] if is_file else list(islice(records, 1))
                records = _chained(first, records)
        told = {"collection": self.name, "records": count, "files": [str(path) for path in paths]}
        if self.json:
            print_json(told)
        else:
            print(f"wrote {count} records of '{self.name}' to {self.out} ({len(paths)} files)")
        return 0


def _chained(first: list[Record], rest: Iterator[Record]) -> Iterator[Record]:
    yield from first
    yield from rest


def _write(path: Path, records: Iterator[Record], chosen: RecordSchema, advance: Any) -> int:
    """Writes one file, whole or not at all; returns its records."""
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    count = 0
    try:
        with pq.ParquetWriter(unfinished, chosen.schema, compression="zstd") as writer:
            while group := list(islice(records, GROUP_RECORDS)):
                writer.write_table(table_of(group, chosen))
                count += len(group)
                advance(len(group))
        with unfinished.open("rb") as stream:
            os.fsync(stream.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return count


def _check_is_new(out: Path) -> None:
    if out.is_file():
        raise ValueError(f"{out} is there already; remove it or name another file")
    if out.is_dir() and (out.suffix == ".parquet" or any(out.iterdir())):
        raise ValueError(f"{out} is a folder that is not empty; name a new one")

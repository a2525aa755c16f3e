"""`diptych snapshots create|list|get|delete|restore|download|upload`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from diptych.cli.connection import Connection
from diptych.cli.job_progress import byte_bar, wait_with_bar
from diptych.cli.jobs import show_jobs
from diptych.cli.printing import print_json, print_table

if TYPE_CHECKING:
    from diptych.client.types import Snapshot

__all__ = ["Create", "Delete", "Download", "Get", "List", "Restore", "Upload"]

Server = Annotated[Connection, tyro.conf.OmitArgPrefixes]


@dataclass(frozen=True, kw_only=True, slots=True)
class Create:
    """Takes a snapshot of a collection while writes go on."""

    collection: Annotated[str, tyro.conf.Positional]
    """The collection's name."""
    wait: bool = True
    """Wait until it is taken; otherwise the job is shown, which goes on without this command."""
    json: bool = False
    """Print JSON instead of a table."""
    connection: Server = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Starts it, waits, and shows it."""
        with self.connection.open() as client:
            job = client.create_snapshot(self.collection)
            if not self.wait:
                show_jobs([job], as_json=self.json, single=True)
                return 0
            wait_with_bar(client, job, f"snapshot of '{self.collection}'")
            _show([client.snapshot(job.subject)], as_json=self.json, single=True)
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class List:
    """Lists snapshots, the newest first."""

    collection: Annotated[str, tyro.conf.Positional] = ""
    """The collection's name; empty for all."""
    json: bool = False
    """Print JSON instead of a table."""
    connection: Server = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Prints them."""
        with self.connection.open() as client:
            _show(client.snapshots(self.collection), as_json=self.json)
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Get:
    """Shows one snapshot."""

    name: Annotated[str, tyro.conf.Positional]
    """Its name."""
    json: bool = False
    """Print JSON instead of a table."""
    connection: Server = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Prints it."""
        with self.connection.open() as client:
            _show([client.snapshot(self.name)], as_json=self.json, single=True)
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Delete:
    """Deletes a snapshot."""

    name: Annotated[str, tyro.conf.Positional]
    """Its name."""
    json: bool = False
    """Print JSON instead of a line."""
    connection: Server = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Deletes it."""
        with self.connection.open() as client:
            client.delete_snapshot(self.name)
        if self.json:
            print_json({"deleted": self.name})
        else:
            print(f"deleted snapshot '{self.name}'")
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Restore:
    """Makes a collection from a snapshot; a collection of that name must not be there."""

    name: Annotated[str, tyro.conf.Positional]
    """The snapshot's name."""
    collection: Annotated[str, tyro.conf.Positional] = ""
    """The collection's name; empty: that of the collection it was taken of."""
    wait: bool = True
    """Wait until it is there; otherwise the job is shown, which goes on without this command."""
    json: bool = False
    """Print JSON instead of a line."""
    connection: Server = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Starts it and waits."""
        with self.connection.open() as client:
            job = client.restore_snapshot(self.name, self.collection or client.snapshot(self.name).collection)
            if not self.wait:
                show_jobs([job], as_json=self.json, single=True)
                return 0
            wait_with_bar(client, job, f"restoring '{job.subject}'")
            found = client.collection(job.subject)
        if self.json:
            print_json(found)
        else:
            print(f"restored '{found.name}': {found.record_count} records (sequence {found.sequence})")
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """Downloads a snapshot; the same command goes on with a download that broke."""

    name: Annotated[str, tyro.conf.Positional]
    """The snapshot's name."""
    file: Annotated[Path, tyro.conf.Positional] = Path()
    """A new file, or a folder for NAME.tar; the current one unless said."""
    json: bool = False
    """Print JSON instead of a line."""
    connection: Server = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Downloads it, and checks it."""
        target = self.file / f"{self.name}.tar" if self.file.is_dir() else self.file
        with self.connection.open() as client, byte_bar(f"downloading '{self.name}'") as advance:
            found = client.download_snapshot(self.name, target, on_progress=advance)
        if self.json:
            print_json({"file": str(target), "size_bytes": found.size_bytes, "sha256": found.sha256})
        else:
            print(f"wrote {target}: {found.size_bytes} bytes, sha256 {found.sha256}")
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """Uploads a file that a download made."""

    file: Annotated[Path, tyro.conf.Positional]
    """The file."""
    name: str = ""
    """What the snapshot shall be called; as the file unless said."""
    json: bool = False
    """Print JSON instead of a table."""
    connection: Server = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Uploads it, and shows it."""
        with self.connection.open() as client, byte_bar(f"uploading {self.file}") as advance:
            found = client.upload_snapshot(self.file, self.name, on_progress=advance)
        _show([found], as_json=self.json, single=True)
        return 0


def _show(found: Sequence[Snapshot], *, as_json: bool, single: bool = False) -> None:
    if as_json:
        print_json(found[0] if single else found)
        return
    rows = [
        (one.name, one.collection, one.record_count, one.sequence, one.size_bytes, f"{one.create_time:%Y-%m-%d %H:%M}")
        for one in found
    ]
    print_table(["name", "collection", "records", "sequence", "bytes", "taken (UTC)"], rows)

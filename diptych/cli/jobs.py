"""`diptych jobs list|get|watch|cancel`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import tyro

from diptych.cli.connection import Connection
from diptych.cli.job_progress import wait_with_bar
from diptych.cli.printing import print_json, print_table

if TYPE_CHECKING:
    from diptych.client.types import Job

__all__ = ["Cancel", "Get", "List", "Watch", "show_jobs"]

Server = Annotated[Connection, tyro.conf.OmitArgPrefixes]


@dataclass(frozen=True, kw_only=True, slots=True)
class List:
    """Lists the long work of a server, the newest first."""

    limit: int = 100
    """Most jobs to list; 0 lists all."""
    json: bool = False
    """Print JSON instead of a table."""
    connection: Server = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Prints them."""
        with self.connection.open() as client:
            found = list(islice(client.jobs(), self.limit or None))
        show_jobs(found, as_json=self.json)
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Get:
    """Shows one job; exit code 1 where it failed."""

    name: Annotated[str, tyro.conf.Positional]
    """Its name."""
    json: bool = False
    """Print JSON instead of a table."""
    connection: Server = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Prints it."""
        with self.connection.open() as client:
            found = client.job(self.name)
        show_jobs([found], as_json=self.json, single=True)
        return 1 if found.state == "failed" else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """Waits until a job has ended; exit code 1 where it failed or was cancelled."""

    name: Annotated[str, tyro.conf.Positional]
    """Its name."""
    json: bool = False
    """Print JSON instead of a table."""
    connection: Server = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Shows how far it is, then how it ended."""
        with self.connection.open() as client:
            found = wait_with_bar(client, client.job(self.name), self.name)
        show_jobs([found], as_json=self.json, single=True)
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Cancel:
    """Asks a job to stop; it ends at its next safe point."""

    name: Annotated[str, tyro.conf.Positional]
    """Its name."""
    json: bool = False
    """Print JSON instead of a table."""
    connection: Server = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Asks, and shows the job."""
        with self.connection.open() as client:
            found = client.cancel_job(self.name)
        show_jobs([found], as_json=self.json, single=True)
        return 0


def show_jobs(found: Sequence[Job], *, as_json: bool, single: bool = False) -> None:
    """Prints jobs.

    Args:
        found: The jobs.
        as_json: Whether as JSON.
        single: Whether JSON is one object.
    """
    if as_json:
        print_json(found[0] if single else found)
        return
    rows = [
        (job.name, job.kind, job.subject, job.state, _share(job), f"{job.create_time:%Y-%m-%d %H:%M:%S}", job.error)
        for job in found
    ]
    print_table(["name", "kind", "subject", "state", "done", "asked for (UTC)", "error"], rows)


def _share(job: Job) -> str:
    return f"{100 * job.done_count // job.total_count} %" if job.total_count else ""

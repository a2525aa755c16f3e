"""Waits for a server's long work with a bar on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diptych.client.sync import Client
    from diptych.client.types import Job

__all__ = ["byte_bar", "record_counter", "wait_with_bar"]


@contextmanager
def byte_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Shows bytes done of all on a terminal; silent elsewhere.

    Args:
        title: What is done.

    Yields:
        Takes the bytes done, and all.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)


@contextmanager
def record_counter(title: str) -> Iterator[Callable[[int], None]]:
    """Counts records on a terminal; silent elsewhere.

    Args:
        title: What is done.

    Yields:
        Takes the records done since the last time.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), SpinnerColumn(), TextColumn("{task.completed:,.0f} records"))
    with Progress(
        *columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal, transient=True
    ) as progress:
        task = progress.add_task(title, total=None)
        yield lambda count: progress.advance(task, count)


def wait_with_bar(client: Client, job: Job, title: str) -> Job:
    """Returns a job once it has ended well.

    Args:
        client: The server's.
        job: The job.
        title: What it does, for people.

    Returns:
        The job as it ended.

    Raises:
        ClientError: Why it failed, or that it was cancelled.
    """
    with byte_bar(title) as advance:
        return client.wait_for_job(job.name, on_change=lambda job: advance(job.done_count, job.total_count))

"""Progress bars on stderr for long work; silent where stderr is no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

__all__ = ["Advance", "progress_bar"]

Advance: TypeAlias = Callable[[int], None]
"""Called with how much more is done (bytes or items); negative where work was thrown away."""


@contextmanager
def progress_bar(
    description: str, total: int | None, *, in_bytes: bool = False, console: Console | None = None
) -> Iterator[Advance]:
    """Shows a bar while the block runs.

    Args:
        description: What is being done, in a few words.
        total: Bytes or items in all; None where unknown.
        in_bytes: Whether the amounts are bytes, shown with a transfer rate.
        console: Where it is drawn; stderr where None.

    Yields:
        The function to call with each amount done.
    """
    console = Console(stderr=True) if console is None else console
    if not console.is_terminal:
        yield lambda _amount: None
        return
    amounts: tuple[ProgressColumn, ...] = (
        (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(),)
    )
    columns = (TextColumn("{task.description}"), BarColumn(), *amounts, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(description, total=total)
        yield lambda amount: bars.advance(task, amount)

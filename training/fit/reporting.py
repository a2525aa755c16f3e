"""What a person sees of a run that is under way: on stderr, silent bars where that is no terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Reporter", "SilentReporter", "TerminalReporter"]


class Reporter(Protocol):
    """Hears how a run goes."""

    def note(self, line: str) -> None:
        """Takes one line for the reader."""
        ...

    def start(self, label: str, total: int, done: int = 0) -> None:
        """Begins a piece of work.

        Args:
            label: What is done, in a word or two.
            total: Its steps.
            done: Steps that were done before.
        """
        ...

    def advance(self, **values: float) -> None:
        """Takes note of one more step, with figures worth showing."""
        ...

    def stop(self) -> None:
        """Ends the piece of work."""
        ...


class SilentReporter:
    """Says nothing; for programs."""

    def note(self, line: str) -> None:
        """Drops the line."""

    def start(self, label: str, total: int, done: int = 0) -> None:
        """Does nothing."""

    def advance(self, **values: float) -> None:
        """Does nothing."""

    def stop(self) -> None:
        """Does nothing."""


class TerminalReporter:
    """Draws a bar on stderr where that is a terminal; lines are printed anywhere.

    Args:
        console: Where to; stderr by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = Console(stderr=True) if console is None else console
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Takes the bar away, whatever happened."""
        self.stop()

    def note(self, line: str) -> None:
        """Prints the line, above the bar."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def start(self, label: str, total: int, done: int = 0) -> None:
        """Draws an empty bar.

        Args:
            label: What is done.
            total: Its steps.
            done: Steps that were done before.
        """
        self.stop()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._bar.add_task(label, total=total, completed=done, figures="")
        self._bar.start()

    def advance(self, **values: float) -> None:
        """Moves the bar by one step.

        Args:
            **values: Figures shown beside it; none keeps those before.
        """
        if self._bar is None:
            return
        task = self._bar.task_ids[0]
        self._bar.advance(task)
        if values:
            self._bar.update(task, figures=" ".join(f"{name} {value:.3f}" for name, value in values.items()))

    def stop(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

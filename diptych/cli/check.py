"""`diptych check`: verifies a data folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from diptych.cli.printing import print_json, print_table

if TYPE_CHECKING:
    from serving.maintenance.findings import CheckReport

__all__ = ["Check", "progress_line", "report_as_json", "show_findings"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """Verifies every byte of a data folder that no server has: databases, records, sources, indexes, snapshots.

    Nothing is changed. Exit code 1 where something is damaged.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    """The data folder."""
    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> int:
        """Checks it and prints what was found."""
        from serving.maintenance.check import check_folder

        with progress_line() as tick:
            report = check_folder(self.folder, tick=tick)
        if self.json:
            print_json(report_as_json(report))
        else:
            show_findings(report, self.folder)
        return 0 if report.is_sound else 1


def report_as_json(report: CheckReport) -> dict[str, Any]:
    """Returns a report for JSON.

    Args:
        report: Of a check.

    Returns:
        Its fields, and whether all is sound.
    """
    return {"sound": report.is_sound, **asdict(report)}


def show_findings(report: CheckReport, folder: Path) -> None:
    """Prints a report for people.

    Args:
        report: Of a check.
        folder: What was checked.
    """
    rows = [(one.severity, one.part, one.subject, one.problem, one.remedy) for one in report.findings]
    if rows:
        print_table(["severity", "part", "subject", "problem", "remedy"], rows)
    verdict = "sound" if report.is_sound else "damaged"
    print(
        f"{folder} is {verdict}: {report.collection_count} collections with {report.record_count} records, "
        f"{report.snapshot_count} snapshots"
    )


@contextmanager
def progress_line() -> Iterator[Callable[[str, float], None]]:
    """Shows on a terminal what is being done; silent elsewhere.

    Yields:
        Takes what is done, and the share of it.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda what, share: progress.update(task, description=what, completed=share)

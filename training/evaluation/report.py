"""Tables from result rows: on the terminal, and in Markdown for the documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from training.evaluation.results import Result

__all__ = ["format_value", "markdown_table", "rich_table"]

_HEADERS = ("measure", "value", "95 % interval", "queries", "gallery")
_LOWER_IS_BETTER = frozenset({"alignment", "uniformity"})


def rich_table(results: Iterable[Result], *, title: str | None = None) -> Table:
    """Lays rows out for the terminal: a line for each measure, below it the subjects, the best first.

    Args:
        results: The rows.
        title: Above the table.

    Returns:
        A table to print.
    """
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for header in _HEADERS:
        table.add_column(header, justify="left" if header == _HEADERS[0] else "right", overflow="fold")
    for group in _grouped(results):
        table.add_row(f"[bold]{escape(_measure(group[0]))}[/bold]", "", "", *_counts(group[0]))
        for number, result in enumerate(group):
            table.add_row(f"  {escape(_subject(result))}", *_figures(result), end_section=number == len(group) - 1)
    return table


def markdown_table(results: Iterable[Result]) -> str:
    """Lays rows out as a Markdown table, one line a row, in the order of `rich_table`.

    Args:
        results: The rows.

    Returns:
        The table, ending with a newline.
    """
    headers = (_HEADERS[0], "subject", *_HEADERS[1:])
    lines = [f"| {' | '.join(headers)} |", "|---|---|---:|---:|---:|---:|"]
    for group in _grouped(results):
        for result in group:
            cells = (_measure(result), _subject(result), *_figures(result), *_counts(result))
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def format_value(result: Result) -> str:
    """Returns the figure with as many digits as its size deserves.

    Args:
        result: The row.

    Returns:
        Three decimals below 10, one from there on.
    """
    return _number(result.value)


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def _measure(result: Result) -> str:
    task, metric, settings = result.measure
    return f"{task} {metric} ({settings})" if settings else f"{task} {metric}"


def _subject(result: Result) -> str:
    return result.subject if result.seed is None else f"{result.subject} (seed {result.seed})"


def _figures(result: Result) -> tuple[str, str]:
    interval = "" if result.interval is None else f"{_number(result.interval[0])} to {_number(result.interval[1])}"
    return _number(result.value), interval


def _counts(result: Result) -> tuple[str, str]:
    return f"{result.n_query:,}", f"{result.n_gallery:,}" if result.n_gallery else ""


def _grouped(results: Iterable[Result]) -> Sequence[Sequence[Result]]:
    """Gathers rows of one measure, in order of first appearance, the best value first."""
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        key = (result.data, result.split, *result.measure)
        groups.setdefault(key, []).append(result)
    return [
        sorted(group, key=lambda row: row.value, reverse=group[0].metric not in _LOWER_IS_BETTER)
        for group in groups.values()
    ]

"""Tables from result rows: on the terminal, and in Markdown for the documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from training.evaluation.results import Result

__all__ = ["format_value", "markdown_table", "rich_table"]

_HEADERS = ("task", "metric", "subject", "value", "95 % interval", "queries", "gallery")
_LOWER_IS_BETTER = frozenset({"alignment", "uniformity"})


def rich_table(results: Iterable[Result], *, title: str | None = None) -> Table:
    """Lays rows out for the terminal, one measure after the other, the best subject first.

    Args:
        results: The rows.
        title: Above the table.

    Returns:
        A table to print.
    """
    table = Table(title=title, title_justify="left")
    for header in _HEADERS:
        table.add_column(header, justify="right" if header in _HEADERS[3:] else "left", overflow="fold")
    for group in _grouped(results):
        for number, result in enumerate(group):
            cells = _cells(result)
            table.add_row(*(cells if number == 0 else ("", "", *cells[2:])), end_section=number == len(group) - 1)
    return table


def markdown_table(results: Iterable[Result]) -> str:
    """Lays rows out as a Markdown table, in the order of `rich_table`.

    Args:
        results: The rows.

    Returns:
        The table, ending with a newline.
    """
    lines = [
        f"| {' | '.join(_HEADERS)} |",
        f"|{'|'.join('---:' if header in _HEADERS[3:] else '---' for header in _HEADERS)}|",
    ]
    for group in _grouped(results):
        lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in _cells(result))} |" for result in group]
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


def _cells(result: Result) -> tuple[str, ...]:
    task, metric, settings = result.measure
    interval = "" if result.interval is None else f"{_number(result.interval[0])} to {_number(result.interval[1])}"
    seed = "" if result.seed is None else f" (seed {result.seed})"
    return (
        task,
        f"{metric} ({settings})" if settings else metric,
        f"{result.subject}{seed}",
        _number(result.value),
        interval,
        f"{result.n_query:,}",
        f"{result.n_gallery:,}" if result.n_gallery else "",
    )


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

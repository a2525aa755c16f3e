"""What a study found, a line for each method: figures averaged over seeds, cost beside them, best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.table import Table

from training.evaluation.bootstrap import BootstrapConfig
from training.evaluation.evaluated import Evaluated, average_runs
from training.evaluation.results import Result
from training.study.runner import Cell

__all__ = ["COLUMNS", "Line", "markdown_lines", "ranked_by", "rich_lines", "study_lines"]

COLUMNS: Mapping[str, tuple[str, str, str]] = {
    "k-NN": ("knn", "accuracy", "vote weighted"),
    "linear": ("linear-probe", "accuracy", ""),
    "few-label": ("few-label", "accuracy", "labels per class 10"),
    "cross-vendor R@1": ("cross-vendor", "recall@1", "direction mean"),
    "next-sentence MRR": ("next-sentence", "mrr", ""),
    "description R@1": ("description-retrieval", "recall@1", ""),
    "RankMe": ("geometry", "rankme", ""),
}
"""Columns of figures: task, metric, and what their settings say; empty ones are left out."""

_COSTS = ("steps", "GFLOP a step", "items/CPU-s", "peak GB")
"""Of a second of CPU time, summed over threads: what else the machine does hardly changes it."""

_RANKED_BY = ("cross-vendor R@1", "linear", "k-NN", "next-sentence MRR", "RankMe")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One method, or one floor."""

    name: str
    seeds: int
    labels: int
    """Labels that training was shown; 0 for a label-free method."""
    values: Mapping[str, float]
    """Mean over the seeds, by column."""
    spread: Mapping[str, float]
    """Standard deviation over the seeds, by column; only where there are several."""
    items_per_cpu_s: float | None = None
    peak_gb: float | None = None
    steps: int | None = None
    flops_per_step: float | None = None
    failure: str | None = None
    is_floor: bool = False


def study_lines(cells: Sequence[Cell], floors: Sequence[Evaluated]) -> list[Line]:
    """Averages cells over seeds, and ranks them.

    Args:
        cells: Of any methods and seeds.
        floors: What nobody trained.

    Returns:
        Lines, best first: those without labels and the floors, then those whose training was shown some; by the first
        of cross-vendor retrieval, linear probe, k-NN and RankMe that was measured.
    """
    names = dict.fromkeys(cell.specification.name for cell in cells)
    lines = [_line([cell for cell in cells if cell.specification.name == name]) for name in names]
    lines += [_floor(floor) for floor in floors]
    column = ranked_by(lines)
    return sorted(lines, key=lambda line: (line.labels > 0, -line.values.get(column, -np.inf)))


def ranked_by(lines: Sequence[Line]) -> str:
    """Returns the column that lines are ranked by.

    Args:
        lines: Of a study.

    Returns:
        The first of cross-vendor retrieval, linear probe, k-NN and RankMe that was measured.
    """
    return next((name for name in _RANKED_BY if any(name in line.values for line in lines)), "RankMe")


def rich_lines(lines: Sequence[Line], *, title: str) -> Table:
    """Lays lines out for the terminal, without what training cost.

    Args:
        lines: As `study_lines` gives them.
        title: Above the table.

    Returns:
        A table to print.
    """
    headers, rows = _cells(lines, with_costs=False)
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, header in enumerate(headers):
        table.add_column(header, justify="left" if number == 0 else "right", overflow="fold")
    for line, row in zip(lines, rows, strict=True):
        table.add_row(*row, style="dim" if line.is_floor else None)
    return table


def markdown_lines(lines: Sequence[Line]) -> str:
    """Lays lines out as a Markdown table, with what training cost.

    Args:
        lines: As `study_lines` gives them.

    Returns:
        The table, ending with a newline.
    """
    headers, rows = _cells(lines, with_costs=True)
    ruler = "|".join(["---", *("---:" for _ in headers[1:])])
    return "\n".join([f"| {' | '.join(headers)} |", f"|{ruler}|", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _line(cells: Sequence[Cell]) -> Line:
    first = cells[0]
    done = [cell.evaluated for cell in cells if cell.evaluated is not None]
    rates = [
        cell.steps * cell.specification.run.batch_size / cell.cpu_seconds
        for cell in cells
        if cell.cpu_seconds is not None
    ]
    failures = [cell.failure for cell in cells if cell.failure is not None]
    per_seed = [_values(each.rows) for each in done]
    spread = {}
    if len(per_seed) > 1:
        spread = {name: float(np.std([values[name] for values in per_seed], ddof=1)) for name in per_seed[0]}
    values = _values(average_runs(done, name=first.specification.name, config=BootstrapConfig()).rows) if done else {}
    return Line(
        name=first.specification.name,
        seeds=len(done),
        labels=first.labels,
        values=values,
        spread=spread,
        items_per_cpu_s=float(np.median(rates)) if rates else None,
        peak_gb=max(cell.peak_bytes for cell in cells) / 1e9,
        steps=first.steps,
        flops_per_step=first.flops_per_step,
        failure=failures[0] if failures else None,
    )


def _floor(floor: Evaluated) -> Line:
    return Line(name=floor.rows[0].subject, seeds=0, labels=0, values=_values(floor.rows), spread={}, is_floor=True)


def _values(rows: Sequence[Result]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, (task, metric, settings) in COLUMNS.items():
        for row in rows:
            if row.task == task and row.metric == metric and settings in row.measure[2]:
                found.setdefault(name, row.value)
    return found


def _cells(lines: Sequence[Line], *, with_costs: bool) -> tuple[list[str], list[list[str]]]:
    columns = [name for name in COLUMNS if any(name in line.values for line in lines)]
    headers = ["method", "labels", "seeds", *columns]
    if not with_costs:
        return headers, [_row(line, columns) for line in lines]
    return [*headers, *_COSTS], [[*_row(line, columns), *_costs(line)] for line in lines]


def _row(line: Line, columns: Sequence[str]) -> list[str]:
    name = f"{line.name} (stopped: {line.failure})" if line.failure and not line.seeds else line.name
    return [
        f"{name} (floor)" if line.is_floor else name,
        f"{line.labels:,}" if line.labels else "none",
        str(line.seeds or ""),
        *(_figure(line, column) for column in columns),
    ]


def _costs(line: Line) -> list[str]:
    return [
        "" if line.steps is None else f"{line.steps:,}",
        "" if line.flops_per_step is None else f"{line.flops_per_step / 1e9:,.1f}",
        "" if line.items_per_cpu_s is None else f"{line.items_per_cpu_s:,.0f}",
        "" if line.peak_gb is None else f"{line.peak_gb:.2f}",
    ]


def _figure(line: Line, column: str) -> str:
    if column not in line.values:
        return ""
    digits = 3 if line.values[column] < 10 else 1
    value = f"{line.values[column]:.{digits}f}"
    return f"{value} ± {line.spread[column]:.{digits}f}" if column in line.spread else value

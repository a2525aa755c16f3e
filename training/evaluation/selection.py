"""Which of some encoders to keep, judged without a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from training.corpora.splits import Split
from training.evaluation.evaluated import Evaluated

__all__ = ["Candidate", "check_selection", "rank_candidates", "selection_table"]

_CRITERIA = ("lidar", "rankme")


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One encoder's label-free figures."""

    name: str
    figures: dict[str, float]
    """`lidar`, `rankme`, `uniformity`, `alignment`, those that the data allow."""


def check_selection(split: Split) -> None:
    """Refuses to select on the split that published figures come from.

    Args:
        split: Part of the data that is measured.

    Raises:
        ValueError: It is the test split.
    """
    if split is Split.TEST:
        raise ValueError("--select chooses, and what was chosen on the test split cannot be published; use another")


def rank_candidates(evaluated: Sequence[Evaluated]) -> tuple[str, list[Candidate]]:
    """Ranks encoders by LiDAR where all have it, else by RankMe, the highest first.

    Args:
        evaluated: Each encoder's figures with the `geometry` task.

    Returns:
        The criterion, and the candidates.

    Raises:
        ValueError: Neither was measured of all of them, since there are fewer items than dimensions; or the vectors'
            widths differ, which bound an effective rank, so that encoders cannot be told apart by it.
    """
    widths = {each.rows[0].subject: _width(each) for each in evaluated}
    if len(set(widths.values()) - {None}) > 1:
        told = ", ".join(f"{name} {width}" for name, width in widths.items())
        raise ValueError(f"--select compares effective ranks, which need vectors of one width; these have: {told}")
    candidates = [
        Candidate(
            name=each.rows[0].subject,
            figures={row.metric: row.value for row in each.rows if row.task == "geometry"},
        )
        for each in evaluated
    ]
    for criterion in _CRITERIA:
        if all(criterion in candidate.figures for candidate in candidates):
            return criterion, sorted(candidates, key=lambda candidate: -candidate.figures[criterion])
    raise ValueError("the split holds fewer items than the vectors have dimensions, so no rank can be told; use more")


def selection_table(criterion: str, candidates: Sequence[Candidate]) -> Table:
    """Lays a ranking out for the terminal.

    Args:
        criterion: As `rank_candidates` gave it.
        candidates: Best first.

    Returns:
        A table to print.
    """
    names = list(dict.fromkeys(name for candidate in candidates for name in candidate.figures))
    names = [criterion, *(name for name in names if name != criterion)]
    table = Table(title=f"without labels, by {criterion}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("encoder", overflow="fold")
    for name in names:
        table.add_column(name, justify="right")
    for candidate in candidates:
        figures = (candidate.figures.get(name) for name in names)
        table.add_row(candidate.name, *("" if value is None else f"{value:.3f}" for value in figures))
    return table


def _width(evaluated: Evaluated) -> object:
    return next((row.parameters.get("width") for row in evaluated.rows if row.metric == "rankme"), None)

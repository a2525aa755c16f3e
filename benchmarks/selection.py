"""How well label-free figures rank encoders: `python -m benchmarks.selection STUDY...`.

Reads finished studies of the validation split. Within methods: each method whose cells differ in their settings
(`diptych study settings`), and the mean over these methods. Across methods: a study of many methods, a cell each
(`diptych study methods`). Each figure is Spearman's correlation of a label-free figure with a labelled one, over the
cells; 1 ranks as the labels do, 0 tells nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from scipy.stats import spearmanr

from training.evaluation.evaluated import decode_evaluated

__all__ = ["main"]

CRITERIA = ("lidar", "rankme", "alignment", "uniformity")
LOWER_IS_BETTER = frozenset({"alignment", "uniformity"})
LABELLED: Mapping[str, tuple[str, str, str]] = {
    "k-NN": ("knn", "accuracy", "vote weighted"),
    "linear": ("linear-probe", "accuracy", ""),
    "cross-vendor R@1": ("cross-vendor", "recall@1", "direction mean"),
}
FEWEST_CELLS = 4
"""Fewer are no ranking."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What is read."""

    studies: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of studies."""


@dataclass(frozen=True, slots=True)
class Trained:
    """One cell's figures."""

    method: str
    figures: Mapping[str, float]


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the studies and prints one table."""
    options = tyro.cli(Options, args=arguments, description=__doc__)
    within: dict[str, list[Trained]] = {}
    across: dict[str, list[Trained]] = {}
    for study in options.studies:
        cells = list(_read(study))
        methods = {cell.method for cell in cells}
        if len(methods) == 1:
            within.setdefault(next(iter(methods)), []).extend(cells)
        elif methods:
            across[study.name] = cells
    print(f"| ranked by | against | {' | '.join(CRITERIA)} |\n|---|---|{'---:|' * len(CRITERIA)}")
    enough = {method: cells for method, cells in within.items() if len(cells) >= FEWEST_CELLS}
    for method, cells in enough.items():
        _print_rows(f"within {method} ({len(cells)})", [cells])
    _print_rows(f"within methods, mean of {len(enough)}", enough.values())
    for name, cells in across.items():
        _print_rows(f"across methods, {name} ({len(cells)})", [cells])


def _read(study: Path) -> Iterator[Trained]:
    for path in sorted((study / "cells").glob("*.json")):
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if "specification" not in stored or "cells" not in stored:
            continue  # a floor, or a training that was stopped
        if stored["specification"]["split"] == "test":
            raise ValueError(f"{path} was measured on test; what ranks encoders is not to be chosen there")
        yield Trained(stored["specification"]["run"]["method"], _figures(stored))


def _figures(stored: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for row in decode_evaluated(stored).rows:
        if row.task == "geometry" and row.metric in CRITERIA:
            found[row.metric] = -row.value if row.metric in LOWER_IS_BETTER else row.value
        for name, (task, metric, settings) in LABELLED.items():
            if row.task == task and row.metric == metric and settings in row.measure[2]:
                found.setdefault(name, row.value)
    return found


def _print_rows(name: str, groups: Iterable[Sequence[Trained]]) -> None:
    groups = list(groups)
    for labelled in LABELLED:
        found = [[_spearman(cells, criterion, labelled) for criterion in CRITERIA] for cells in groups]
        if found and not np.isnan(found).all():
            print(f"| {name} | {labelled} | {' | '.join(map(_mean, zip(*found, strict=True)))} |")


def _mean(values: Sequence[float]) -> str:
    """Writes the mean of those that could be computed: an effective rank wants more images than dimensions."""
    known = [value for value in values if not np.isnan(value)]
    return f"{np.mean(known):+.2f}" if known else ""


def _spearman(cells: Sequence[Trained], criterion: str, labelled: str) -> float:
    pairs = [
        (cell.figures[criterion], cell.figures[labelled])
        for cell in cells
        if criterion in cell.figures and labelled in cell.figures
    ]
    if len(pairs) < FEWEST_CELLS:
        return float("nan")
    left, right = zip(*pairs, strict=True)
    return float(spearmanr(left, right).statistic)


if __name__ == "__main__":
    main()

"""The demo's one picture: query images with their neighbours, a score under each, and the two training curves."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

__all__ = ["Curve", "Neighbour", "QueryRow", "draw", "read_curve"]

RIGHT = "#2e7d32"
WRONG = "#9e9e9e"


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One answer to an image query."""

    image: NDArray[np.uint8]
    """`[h, w, 3]`."""
    score: float
    """Higher is closer."""
    same: bool
    """Whether it is another vendor's drawing of the same thing."""


@dataclass(frozen=True, slots=True)
class QueryRow:
    """One query and its answers, best first."""

    image: NDArray[np.uint8]
    """`[h, w, 3]`."""
    neighbours: Sequence[Neighbour]


@dataclass(frozen=True, slots=True)
class Curve:
    """One training run's loss."""

    title: str
    steps: NDArray[np.float64]
    losses: NDArray[np.float64]


def read_curve(metrics_file: Path, title: str) -> Curve:
    """Reads the loss of a run from its `metrics.csv`.

    Args:
        metrics_file: The run's file.
        title: What to write above the curve.

    Returns:
        The curve; rows without a loss are passed over.
    """
    with metrics_file.open(newline="") as file:
        rows = [(float(row["step"]), float(row["loss"])) for row in csv.DictReader(file) if row.get("loss")]
    steps, losses = np.array(rows).T
    return Curve(title, steps, losses)


def draw(rows: Sequence[QueryRow], curves: Sequence[Curve], destination: Path) -> None:
    """Draws queries with their neighbours on the left, the curves on the right.

    Args:
        rows: At least one query; as many columns as the longest answer.
        curves: At least one training curve.
        destination: PNG file to write.
    """
    columns = 1 + max(len(row.neighbours) for row in rows)
    figure = Figure(figsize=(1.05 * columns + 4.6, 1.2 * len(rows) + 0.7), dpi=110, layout="constrained")
    panels = figure.subfigures(1, 2, squeeze=False, width_ratios=[1.05 * columns, 4.6])
    left, right = panels[0]
    left.suptitle("held-out drawings: query, then nearest of the other vendors (green: the same thing)", fontsize=9)
    axes = left.subplots(len(rows), columns, squeeze=False)
    for row, line in zip(rows, axes, strict=True):
        _show(line[0], row.image, "query", "black")
        for axis, neighbour in zip(line[1:], row.neighbours, strict=False):
            _show(axis, neighbour.image, f"{neighbour.score:.3f}", RIGHT if neighbour.same else WRONG)
        for axis in line[1 + len(row.neighbours) :]:
            axis.set_axis_off()
    right.suptitle("training loss", fontsize=9)
    for curve, axis in zip(curves, right.subplots(len(curves), 1, squeeze=False)[:, 0], strict=True):
        axis.plot(curve.steps, curve.losses, color="#1565c0", linewidth=1.2)
        axis.set_title(curve.title, fontsize=8)
        axis.set_xlabel("step", fontsize=7)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    figure.savefig(destination)


def _show(axis: Axes, image: NDArray[np.uint8], caption: str, colour: str) -> None:
    axis.imshow(image, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_xlabel(caption, fontsize=7, color=colour, labelpad=2)
    for spine in axis.spines.values():
        spine.set_color(colour)
        spine.set_linewidth(1.5)

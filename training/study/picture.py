"""A study as one picture: a panel a figure, a bar a method, floors as lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.publish import publish_file
from training.study.table import COLUMNS, Line

__all__ = ["draw_study"]

_LABEL_FREE, _LABELLED, _FLOOR = "tab:blue", "tab:orange", "0.35"
_FLOOR_STYLES = ("--", ":", "-.")


def draw_study(lines: Sequence[Line], path: Path, *, title: str) -> None:
    """Draws a study.

    Args:
        lines: As `study_lines` gives them.
        path: The PNG to write; one that is there is replaced at once.
        title: What stands above.
    """
    columns = [name for name in COLUMNS if any(name in line.values for line in lines)]
    methods = [line for line in lines if not line.is_floor and line.values]
    floors = [line for line in lines if line.is_floor]
    if not columns or not methods:
        return
    height = 0.28 * len(methods) + 1.8
    figure = Figure(figsize=(3.0 * len(columns) + 1.6, height))
    figure.subplots_adjust(left=1.6 / (3 * len(columns) + 1.6), right=0.98, bottom=0.9 / height, top=1 - 0.8 / height)
    figure.suptitle(title)
    for number, column in enumerate(columns, start=1):
        axes = figure.add_subplot(1, len(columns), number)
        places = range(len(methods))[::-1]  # the best on top
        axes.barh(
            list(places),
            [line.values.get(column, 0.0) for line in methods],
            xerr=[line.spread.get(column, 0.0) for line in methods],
            color=[_LABELLED if line.labels else _LABEL_FREE for line in methods],
            height=0.7,
        )
        for style, floor in zip(_FLOOR_STYLES, floors, strict=False):
            if column in floor.values:
                axes.axvline(floor.values[column], color=_FLOOR, linestyle=style, linewidth=1, label=floor.name)
        axes.set_yticks(list(places), [line.name for line in methods] if number == 1 else [""] * len(methods))
        axes.set_title(column, fontsize="medium")
        axes.grid(axis="x", alpha=0.3)
    figure.text(0.01, 0.02, "orange: trained with labels", fontsize="small")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="lower right", ncols=3, fontsize="small")
    FigureCanvasAgg(figure)  # draws without a display
    publish_file(path, lambda temporary: figure.savefig(temporary, dpi=110, format="png"))

"""A picture of a run: how its figures went, one small plot each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.publish import publish_file

__all__ = ["draw_curves"]

_SKIPPED = frozenset({"step", "epoch", "rows", "neighbours"})
_COLUMNS = 3
_SMOOTHING = 0.9


def draw_curves(rows: Sequence[dict[str, float]], path: Path, *, title: str) -> None:
    """Draws the figures of a run over its steps.

    Args:
        rows: As `read_metrics` gives them.
        path: The PNG to write; one that is there is replaced at once.
        title: What stands above.
    """
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in _SKIPPED]
    if not names:
        return
    lines = -(-len(names) // _COLUMNS)
    height = 2.6 * lines + 0.5
    figure = Figure(figsize=(4 * _COLUMNS, height))
    # By hand: matplotlib's own layouts take seconds for a dozen plots.
    figure.subplots_adjust(left=0.06, right=0.98, bottom=0.55 / height, top=1 - 0.8 / height, hspace=0.6, wspace=0.25)
    figure.suptitle(title)
    for place, name in enumerate(names, start=1):
        steps = [row["step"] for row in rows if name in row]
        values = [row[name] for row in rows if name in row]
        axes = figure.add_subplot(lines, _COLUMNS, place)
        long = len(values) > 30
        axes.plot(steps, values, linewidth=1, alpha=0.35 if long else 1, color="tab:blue")
        if long:
            axes.plot(steps, _smooth(values), linewidth=1.5, color="tab:blue")
        axes.set_title(name, fontsize="medium")
        axes.set_xlabel("step", fontsize="small")
        axes.grid(alpha=0.3)
    FigureCanvasAgg(figure)  # draws without a display
    publish_file(path, lambda temporary: figure.savefig(temporary, dpi=110, format="png"))


def _smooth(values: Sequence[float]) -> list[float]:
    """Exponential average, with the start's bias taken out."""
    average, smoothed = 0.0, []
    for count, value in enumerate(values, start=1):
        average = _SMOOTHING * average + (1 - _SMOOTHING) * value
        smoothed.append(average / (1 - _SMOOTHING**count))
    return smoothed

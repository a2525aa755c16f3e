"""The augmentation study: which kinds of change teach a method, in pairs, and how strong colour changes should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.publish import publish_file
from training.study.cell import CellSpecification
from training.study.config import AugmentationStudyConfig
from training.study.specify import require_known_settings, specify_cell, study_method
from training.study.table import Line, ranked_by

__all__ = ["AugmentationFigures", "draw_augmentations", "gather_augmentations", "plan_augmentations"]


def plan_augmentations(config: AugmentationStudyConfig) -> list[CellSpecification]:
    """Lists the cells: each kind alone, each pair, then the strengths, seed by seed.

    Flips are part of every pair: they teach next to nothing by themselves, and cost nothing.

    Args:
        config: What is studied.

    Returns:
        The specifications.
    """
    entry = study_method(config, config.method)
    if entry.modality != "image":
        raise ValueError(f"--data ({config.data}) holds texts; changes of views are studied on images")
    require_known_settings(config, [entry])
    pairs = list(combinations_with_replacement(config.kinds, 2))
    changes: dict[str, dict[str, Any]] = {
        _pair_name(*pair): {"kinds": ["flip", *dict.fromkeys(pair)]} for pair in pairs
    }
    changes |= {_strength_name(strength): {"strength": strength} for strength in config.strengths}
    return [
        specify_cell(config, entry, name=name, seed=seed, settings=settings)
        for seed in config.seeds
        for name, settings in changes.items()
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentationFigures:
    """What the study found, in one figure a cell."""

    column: str
    """Which figure."""
    kinds: Sequence[str]
    pairs: NDArray[np.float64]
    """`[k, k]`, symmetric; the diagonal holds kinds alone; NaN where a cell failed."""
    strengths: Mapping[float, float]
    """Figure by strength."""
    strength_spread: Mapping[float, float]
    """Standard deviation over the seeds, where there are several."""


def gather_augmentations(config: AugmentationStudyConfig, lines: Sequence[Line]) -> AugmentationFigures:
    """Puts a study's lines into a matrix and a curve.

    Args:
        config: What was studied.
        lines: As `study_lines` gives them.

    Returns:
        The figures.
    """
    column = ranked_by(lines)
    values = {line.name: line.values.get(column, float("nan")) for line in lines}
    spreads = {line.name: line.spread.get(column, 0.0) for line in lines}
    pairs = [
        [values[_pair_name(*_ordered(config.kinds, one, other))] for other in config.kinds] for one in config.kinds
    ]
    return AugmentationFigures(
        column=column,
        kinds=config.kinds,
        pairs=np.array(pairs),
        strengths={each: values[_strength_name(each)] for each in config.strengths},
        strength_spread={each: spreads[_strength_name(each)] for each in config.strengths},
    )


def draw_augmentations(figures: AugmentationFigures, path: Path, *, title: str) -> None:
    """Draws the matrix of pairs and the curve of strengths.

    Args:
        figures: What was found.
        path: The PNG to write; one that is there is replaced at once.
        title: What stands above.
    """
    figure = Figure(figsize=(12, 5.2))
    figure.subplots_adjust(left=0.09, right=0.97, bottom=0.14, top=0.84, wspace=0.3)
    figure.suptitle(title)
    matrix = figure.add_subplot(1, 2, 1)
    shown = matrix.imshow(figures.pairs, cmap="viridis")
    for row, column in np.ndindex(figures.pairs.shape):
        value = f"{figures.pairs[row, column]:.3f}"
        matrix.text(column, row, value, ha="center", va="center", color="white", fontsize=8)
    matrix.set_xticks(range(len(figures.kinds)), figures.kinds, rotation=30)
    matrix.set_yticks(range(len(figures.kinds)), figures.kinds)
    matrix.set_title(f"{figures.column} by pair; alone on the diagonal", fontsize="medium")
    figure.colorbar(shown, ax=matrix, fraction=0.046)
    curve = figure.add_subplot(1, 2, 2)
    curve.errorbar(
        list(figures.strengths),
        list(figures.strengths.values()),
        yerr=[figures.strength_spread[each] for each in figures.strengths],
        marker="o",
        capsize=3,
    )
    curve.set_xlabel("strength of the colour changes")
    curve.set_ylabel(figures.column)
    curve.set_title("the whole set of views", fontsize="medium")
    curve.grid(alpha=0.3)
    FigureCanvasAgg(figure)  # draws without a display
    publish_file(path, lambda temporary: figure.savefig(temporary, dpi=110, format="png"))


def _pair_name(one: str, other: str) -> str:
    return one if one == other else f"{one}+{other}"


def _strength_name(strength: float) -> str:
    return f"strength-{strength:g}"


def _ordered(kinds: Sequence[str], one: str, other: str) -> tuple[str, str]:
    return (one, other) if kinds.index(one) <= kinds.index(other) else (other, one)

"""`diptych study methods|settings|augmentations`: many trainings at equal cost, one table, one picture."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from training.study.config import AugmentationStudyConfig, MethodStudyConfig, SettingsStudyConfig, StudyConfig

if TYPE_CHECKING:
    from training.evaluation.results import Result
    from training.study.cell import CellSpecification
    from training.study.runner import Cell
    from training.study.table import Line

__all__ = ["StudyAugmentations", "StudyMethods", "StudySettings"]

_flat = tyro.conf.configure(tyro.conf.OmitArgPrefixes, tyro.conf.EnumChoicesFromValues)


@_flat
@dataclass(frozen=True, kw_only=True, slots=True)
class StudyMethods:
    """Trains every method at equal cost on one pack of images or texts, and writes one table and one picture.

    All are measured alike, beside floors that nobody trained.
    Cost is counted in floating-point operations on one step of each method. Every method and seed is a cell of its own,
    in its own process; an interrupted study goes on where it stopped.
    """

    study: MethodStudyConfig
    markdown: bool = False
    """Print the table as Markdown."""

    def run(self) -> int:
        """Runs the cells that are missing, and prints what all of them found."""
        from training.study.methods import compare_methods, plan_methods

        cells = _compare(self.study, plan_methods(self.study), markdown=self.markdown)
        _print_differences(compare_methods(self.study, cells), self.study.out, markdown=self.markdown)
        return 0


@_flat
@dataclass(frozen=True, kw_only=True, slots=True)
class StudySettings:
    """Trains one method with every combination of some settings, and writes one table and one picture.

    Choose on the validation split, its default, and measure what was chosen on test once. Every combination and seed
    is a cell of its own, in its own process; an interrupted study goes on where it stopped.
    """

    study: SettingsStudyConfig
    markdown: bool = False
    """Print the table as Markdown."""

    def run(self) -> int:
        """Runs the cells that are missing, and prints what all of them found."""
        from training.study.settings import plan_settings

        _compare(self.study, plan_settings(self.study), f"{self.study.method}, ", markdown=self.markdown)
        return 0


@_flat
@dataclass(frozen=True, kw_only=True, slots=True)
class StudyAugmentations:
    """Trains one method with every pair of kinds of change, and with colour changes of several strengths.

    Writes one table, and one picture: the matrix of the pairs and the curve of the strengths. Every pair, strength and
    seed is a cell of its own, in its own process; an interrupted study goes on where it stopped.
    """

    study: AugmentationStudyConfig
    markdown: bool = False
    """Print the table as Markdown."""

    def run(self) -> int:
        """Runs the cells that are missing, and prints what all of them found."""
        from training.study.augmentations import draw_augmentations, gather_augmentations, plan_augmentations
        from training.study.runner import run_cells
        from training.study.table import study_lines

        study = self.study
        lines = study_lines(run_cells(plan_augmentations(study), study.out, report=_say), [])
        title = f"{study.method}, {study.data.name}, {study.split} split, {study.budget:.3g} FLOP a training"
        draw_augmentations(gather_augmentations(study, lines), study.out / "study.png", title=title)
        _print_lines(lines, study.out, title=title, markdown=self.markdown)
        return 0


def _compare(study: StudyConfig, cells: Sequence[CellSpecification], of: str = "", *, markdown: bool) -> list[Cell]:
    """Runs the cells, measures the floors, draws and prints."""
    from training.study.picture import draw_study
    from training.study.runner import measure_floors, run_cells
    from training.study.table import study_lines

    found = run_cells(cells, study.out, report=_say)
    lines = study_lines(found, measure_floors(study, found))
    title = f"{of}{study.data.name}, {study.split} split, {study.budget:.3g} FLOP a training"
    draw_study(lines, study.out / "study.png", title=title)
    _print_lines(lines, study.out, title=title, markdown=markdown)
    return found


def _print_differences(rows: Sequence[Result], out: Path, *, markdown: bool) -> None:
    """Prints how far pairs of methods are apart, if any were asked for, and puts it below the table in the file."""
    from rich.console import Console

    from training.evaluation.report import markdown_table, rich_table
    from training.publish import publish_text

    if not rows:
        return
    table = markdown_table(rows)
    publish_text(out / "table.md", f"{(out / 'table.md').read_text(encoding='utf-8')}\n{table}")
    if markdown:
        print(f"\n{table}", end="")
    else:
        Console().print(rich_table(rows))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print_lines(lines: Sequence[Line], out: Path, *, title: str, markdown: bool) -> None:
    from rich.console import Console

    from training.publish import publish_text
    from training.study.table import markdown_lines, rich_lines

    table = markdown_lines(lines)
    publish_text(out / "table.md", f"{title}\n\n{table}")
    if markdown:
        print(table, end="")
    else:
        Console().print(rich_lines(lines, title=title))
    _say(f"wrote {out / 'table.md'} and {out / 'study.png'}")

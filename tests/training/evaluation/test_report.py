"""Tables from rows."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

from rich.console import Console

from tests.training.evaluation.test_results import ROW
from training.evaluation.report import markdown_table, rich_table

ROWS = [
    ROW,
    replace(ROW, subject="raw-pixels", value=0.31, seed=None),
    replace(
        ROW, metric="alignment", task="geometry", parameters={}, interval=None, n_gallery=0, n_query=528, value=0.5
    ),
    replace(
        ROW,
        metric="alignment",
        task="geometry",
        parameters={},
        interval=None,
        n_gallery=0,
        n_query=528,
        value=0.2,
        seed=2,
    ),
]


def printed(width: int = 100) -> str:
    console = Console(file=StringIO(), width=width)
    console.print(rich_table(ROWS, title="emoji"))
    file = console.file
    assert isinstance(file, StringIO)
    return file.getvalue()


def test_subjects_of_one_measure_stand_together_the_best_first() -> None:
    lines = [line.split() for line in printed().splitlines() if line.strip()]
    assert lines[3] == ["cross-vendor", "recall@1", "(direction", "mean", "of", "6)", "1,056", "176"]
    assert lines[4] == ["raw-pixels", "0.310", "0.200", "to", "0.300"]
    assert lines[5] == ["simclr", "(seed", "1)", "0.250", "0.200", "to", "0.300"]


def test_the_lower_alignment_is_the_better() -> None:
    text = printed()
    assert text.index("0.200\n" if "0.200\n" in text else "simclr (seed 2)") < text.rindex("simclr (seed 1)")


def test_names_in_brackets_are_printed_as_they_are() -> None:
    console = Console(file=StringIO(), width=100)
    console.print(rich_table([replace(ROW, subject="run[1]")]))
    assert isinstance(console.file, StringIO)
    assert "run[1] (seed 1)" in console.file.getvalue()


def test_markdown_has_one_line_a_row() -> None:
    assert markdown_table(ROWS).splitlines() == [
        "| measure | subject | value | 95 % interval | queries | gallery |",
        "|---|---|---:|---:|---:|---:|",
        "| cross-vendor recall@1 (direction mean of 6) | raw-pixels | 0.310 | 0.200 to 0.300 | 1,056 | 176 |",
        "| cross-vendor recall@1 (direction mean of 6) | simclr (seed 1) | 0.250 | 0.200 to 0.300 | 1,056 | 176 |",
        "| geometry alignment | simclr (seed 2) | 0.200 |  | 528 |  |",
        "| geometry alignment | simclr (seed 1) | 0.500 |  | 528 |  |",
    ]


def test_markdown_escapes_what_would_end_a_cell() -> None:
    assert "a\\|b" in markdown_table([replace(ROW, subject="a|b")])


def test_large_figures_lose_needless_digits() -> None:
    assert "| 1,304.3 |" in markdown_table([replace(ROW, value=1304.26)])

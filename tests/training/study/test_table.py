from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from models.config import ImageEncoderConfig
from tests.training.study.figures import knn_figures
from training.corpora.splits import Split
from training.run_config import ImageRunConfig
from training.study.cell import CellSpecification
from training.study.picture import draw_study
from training.study.runner import Cell
from training.study.table import markdown_lines, study_lines


def cell(name: str, *, seed: int, right: list[float] | None, labels: int = 0, failure: str | None = None) -> Cell:
    run = ImageRunConfig(data=Path("data"), out=Path("out"), encoder=ImageEncoderConfig())
    specification = CellSpecification(name=name, run=run, budget=1e9, split=Split.VALIDATION, threads=1)
    return Cell(
        specification=specification,
        seed=seed,
        flops_per_step=2e9,
        steps=10,
        labels=labels,
        failure=failure,
        cpu_seconds=25.6 / (seed + 1),
        peak_bytes=1_500_000_000 + seed,
        evaluated=None if right is None else knn_figures(name, right=right),
    )


CELLS = [
    cell("good", seed=0, right=[1, 1, 1, 0]),
    cell("good", seed=1, right=[1, 0, 1, 0]),
    cell("taught", seed=0, right=[1, 1, 1, 1], labels=30),
    cell("fallen", seed=0, right=None, failure="collapsed at step 40"),
]
FLOORS = [knn_figures("raw-pixels", right=[0, 0, 1, 0])]


def test_seeds_are_averaged_and_the_best_comes_first_with_labels_apart() -> None:
    lines = study_lines(CELLS, FLOORS)

    assert [line.name for line in lines] == ["good", "raw-pixels", "fallen", "taught"]
    good = lines[0]
    assert good.values == {"k-NN": pytest.approx((0.75 + 0.5) / 2)}
    assert good.spread == {"k-NN": pytest.approx(0.25 / 2**0.5)}
    assert (good.seeds, good.labels, good.items_per_cpu_s) == (2, 0, 150)
    assert good.peak_gb == pytest.approx(1.5)
    assert lines[3].labels == 30
    assert lines[1].is_floor


def test_markdown_shows_labels_spread_costs_and_what_stopped() -> None:
    text = markdown_lines(study_lines(CELLS, FLOORS)).splitlines()

    assert text[0] == "| method | labels | seeds | k-NN | steps | GFLOP a step | items/CPU-s | peak GB |"
    assert text[2].startswith("| good | none | 2 | 0.625 ± 0.177 |")
    assert text[3] == "| raw-pixels (floor) | none |  | 0.250 |  |  |  |  |"
    assert text[4].startswith("| fallen (stopped: collapsed at step 40) | none |")
    assert text[5] == "| taught | 30 | 1 | 1.000 | 10 | 2.0 | 100 | 1.50 |"


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    draw_study(study_lines(CELLS, FLOORS), tmp_path / "study.png", title="a study")

    with Image.open(tmp_path / "study.png") as picture:
        assert picture.size[0] > 300

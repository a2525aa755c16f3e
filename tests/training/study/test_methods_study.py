"""A study with real cells, in processes of their own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.config import ImageEncoderConfig
from models.image.encoder import ImageEncoder
from tests.training.corpora.pictures import png
from tests.training.study.figures import knn_figures
from training.corpora.image_items import ImageItem
from training.corpora.image_pack import ImagePack, write_image_pack
from training.corpora.splits import SplitFractions
from training.fit.image_training import ImageTraining, build_image_training
from training.methods.base import MethodContext
from training.methods.image.simclr import SimCLR, SimCLRConfig
from training.run_config import ImageRunConfig, LabelConfig
from training.study.cell import CellSpecification
from training.study.config import MethodStudyConfig
from training.study.flops import step_flops
from training.study.methods import compare_methods, plan_methods
from training.study.runner import Cell, CellFailedError, measure_floors, run_cells


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> ImagePack:
    rng = np.random.default_rng(0)
    items = [
        ImageItem(f"{number}", png(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)), label="ab"[number % 2])
        for number in range(90)
    ]
    folder = tmp_path_factory.mktemp("packs") / "image"
    fractions = SplitFractions(validation=0.2, test=0.1)
    return write_image_pack(items, folder, size_px=16, source="test", fractions=fractions)[0]


def build(pack: ImagePack) -> ImageTraining:
    encoder = ImageEncoderConfig(image_size_px=16)
    return build_image_training(ImageRunConfig(data=pack.path, out=Path("x"), encoder=encoder, batch_size=8), pack)


def test_flops_of_a_step_are_forward_and_twice_backward(pack: ImagePack) -> None:
    training = build(pack)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10, bias=False))
    encoder = ImageEncoder(ImageEncoderConfig(), backbone, width=10, layers=())
    context = MethodContext(dataset_size=60, batch_size=8, image_size_px=16)
    method = SimCLR(encoder, SimCLRConfig(projection_width=4), context=context)
    counted = step_flops(method, training.feed)

    views = 16
    forward = 2 * views * (768 * 10 + 10 * 10 + 10 * 4) + 2 * views * 4 * views
    # Backward: by the weights and by the inputs, but for the first layer's, which nobody asks for.
    assert counted == 3 * forward - 2 * views * 768 * 10


def test_flops_of_a_grouped_convolution_are_its_own_backward_too(pack: ImagePack) -> None:
    training = build(pack)
    backbone = nn.Sequential(
        nn.Conv2d(3, 6, 1, bias=False),
        nn.Conv2d(6, 6, 3, groups=6, padding=1, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    encoder = ImageEncoder(ImageEncoderConfig(), backbone, width=6, layers=())
    context = MethodContext(dataset_size=60, batch_size=8, image_size_px=16)
    counted = step_flops(SimCLR(encoder, SimCLRConfig(projection_width=4), context=context), training.feed)

    views = 16
    first, depthwise = 2 * views * 256 * 3 * 6, 2 * views * 256 * 6 * 9
    head = 2 * views * (6 * 6 + 6 * 4) + 2 * views * 4 * views
    assert counted == 2 * first + 3 * depthwise + 3 * head


def test_counting_leaves_the_training_as_it_was(pack: ImagePack) -> None:
    training = build(pack)
    before = {name: value.clone() for name, value in training.method.state_dict().items()}
    step_flops(training.method, training.feed, batches=2)
    assert all(torch.equal(before[name], value) for name, value in training.method.state_dict().items())
    assert all(parameter.grad is None for parameter in training.method.parameters())


def test_every_image_method_is_planned_seed_by_seed(pack: ImagePack, tmp_path: Path) -> None:
    cells = plan_methods(MethodStudyConfig(data=pack.path, out=tmp_path, seeds=(0, 1)))

    names = [cell.name for cell in cells]
    assert {"simclr", "mean-shift"} <= set(names)
    assert names[: len(names) // 2] == names[len(names) // 2 :]
    assert [cell.run.fit.loop.seed for cell in cells] == [0] * (len(names) // 2) + [1] * (len(names) // 2)
    with pytest.raises(ValueError, match="--method quick-thoughts learns from text"):
        plan_methods(MethodStudyConfig(data=pack.path, out=tmp_path, methods=("quick-thoughts",)))


def test_a_finished_cell_is_read_and_a_changed_one_runs_again(pack: ImagePack, tmp_path: Path) -> None:
    config = MethodStudyConfig(data=pack.path, out=tmp_path, methods=("simclr",), budget=1e7, threads=1)
    told: list[str] = []
    [cell] = run_cells(plan_methods(config), tmp_path, report=told.append)

    assert told == ["cell 1 of 1: simclr, seed 0"]
    assert cell.failure is None
    assert cell.steps == max(1, round(1e7 / cell.flops_per_step))
    assert cell.peak_bytes > 1e8
    assert cell.evaluated is not None
    tasks = {row.task for row in cell.evaluated.rows}
    assert {"knn", "linear-probe", "few-label", "geometry"} <= tasks
    assert {row.subject for row in cell.evaluated.rows} == {"simclr"}
    assert {row.split for row in cell.evaluated.rows} == {"validation"}

    [again] = run_cells(plan_methods(config), tmp_path, report=told.append)
    assert len(told) == 1
    assert again.evaluated is not None
    assert [row.value for row in again.evaluated.rows] == [row.value for row in cell.evaluated.rows]

    stored = json.loads((tmp_path / "cells/simclr-0.json").read_text())
    stored["specification"]["budget"] = 1.0
    (tmp_path / "cells/simclr-0.json").write_text(json.dumps(stored))
    run_cells(plan_methods(config), tmp_path, report=told.append)
    assert len(told) == 2

    floors = measure_floors(replace(config, beside=("raw-pixels", str(cell.specification.run.out))), [cell])
    names = [floor.rows[0].subject for floor in floors]
    assert names == ["raw-pixels", "centred-pixels", "untrained", "simclr-0"]
    started = measure_floors(replace(config, init=tmp_path), [cell])
    assert [floor.rows[0].subject for floor in started] == ["raw-pixels", "centred-pixels"]


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--budget \(0\) must be > 0"):
        MethodStudyConfig(data=tmp_path, out=tmp_path, budget=0)
    with pytest.raises(ValueError, match="--seeds"):
        MethodStudyConfig(data=tmp_path, out=tmp_path, seeds=())
    assert MethodStudyConfig(data=tmp_path, out=tmp_path).labels == LabelConfig()


def test_a_cell_that_fails_is_named_and_the_others_are_run(pack: ImagePack, tmp_path: Path) -> None:
    config = MethodStudyConfig(data=pack.path, out=tmp_path, methods=("simclr", "rotation"), budget=1e7, threads=1)
    broken, sound = plan_methods(config)
    broken = replace(broken, run=replace(broken.run, settings={"temperature": -1.0}))

    with pytest.raises(CellFailedError, match=r"1 of 2 cells failed: simclr-0; .*goes on with those that are missing"):
        run_cells([broken, sound], tmp_path)

    assert (tmp_path / "cells/rotation-0.json").is_file()
    assert sorted(path.name for path in (tmp_path / "cells").iterdir()) == ["rotation-0.json"]


def test_pairs_are_compared_query_by_query(pack: ImagePack, tmp_path: Path) -> None:
    config = MethodStudyConfig(
        data=pack.path, out=tmp_path, methods=("byol", "simclr"), against=("simclr:byol",), seeds=(0, 1)
    )
    byol, simclr, *_ = plan_methods(config)
    right = {byol.name: [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], simclr.name: [[1.0, 1.0, 0.0, 0.0]] * 2}
    cells = [measured(plan, seed, right[plan.name][seed]) for plan in (byol, simclr) for seed in (0, 1)]

    [row] = compare_methods(config, cells)

    assert (row.subject, row.metric) == (
        "simclr, mean of 2 seeds - byol, mean of 2 seeds",
        "accuracy difference",
    )
    assert row.value == pytest.approx(0.5 - 0.125)
    assert row.interval is not None
    assert row.interval[0] < row.value < row.interval[1]
    assert compare_methods(replace(config, against=()), cells) == []
    failed = [replace(cell, evaluated=None) for cell in cells]
    assert compare_methods(config, failed) == []
    for wrong in ("simclr", "simclr:swav"):
        with pytest.raises(ValueError, match=f"--against {wrong}: write METHOD:OTHER, two of .*: byol, simclr"):
            plan_methods(replace(config, against=(wrong,)))


def measured(plan: CellSpecification, seed: int, right: list[float]) -> Cell:
    return Cell(
        specification=plan,
        seed=seed,
        flops_per_step=1.0,
        steps=1,
        labels=0,
        failure=None,
        cpu_seconds=1.0,
        peak_bytes=1,
        evaluated=knn_figures(plan.name, right=right),
    )

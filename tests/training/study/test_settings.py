from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.evaluation.tiny_runs import make_image_pack
from training.config import OptimiserName
from training.run_config import ImageRunConfig, LabelConfig
from training.study.augmentations import plan_augmentations
from training.study.config import AugmentationStudyConfig, MethodStudyConfig, SettingsStudyConfig
from training.study.methods import plan_methods
from training.study.settings import plan_settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("study")
    make_image_pack(found / "pack")
    return found


def study(folder: Path, *grid: str, told: tuple[str, ...] = ()) -> SettingsStudyConfig:
    return SettingsStudyConfig(
        data=folder / "pack", out=folder / "out", method="byol", grid=grid, set=told, seeds=(0, 1)
    )


def test_every_combination_is_a_cell_of_every_seed(folder: Path) -> None:
    cells = plan_settings(study(folder, "learning-rate=0.1,0.2", "ema-decay=0.5", "optimiser=adamw", "batch-size=5"))

    first, second, *others = cells
    assert first.name == "learning-rate=0.1,ema-decay=0.5,optimiser=adamw,batch-size=5"
    assert [cell.run.fit.optimiser.learning_rate for cell in (first, second)] == [0.1, 0.2]
    assert [cell.run.fit.loop.seed for cell in cells] == [0, 0, 1, 1]
    assert len({cell.run.out for cell in cells}) == 4
    assert first.run.settings["ema_decay"] == 0.5
    assert first.run.fit.optimiser.optimiser is OptimiserName.ADAMW
    assert first.run.batch_size == 5
    # What nobody named is the recipe's.
    assert first.run.settings["output_norm"]
    assert others[0].run.fit.optimiser.weight_decay == 1e-4


def test_what_the_study_is_told_gives_way_to_the_grid(folder: Path) -> None:
    told = ("smallest-crop=0.5", "ema-decay=0.9")
    [cell] = plan_settings(study(folder, "ema-decay=0.5", told=told))[:1]
    assert (cell.run.settings["smallest_crop"], cell.run.settings["ema_decay"]) == (0.5, 0.5)


def test_each_method_takes_what_it_has(folder: Path) -> None:
    labels = LabelConfig(labels_per_class=2)
    config = MethodStudyConfig(
        data=folder / "pack", out=folder / "out", methods=("byol", "simclr", "supervised"), labels=labels,
        set=("ema-decay=0.5",),
    )  # fmt: skip
    byol, simclr, supervised, ceiling = plan_methods(config)
    assert byol.run.settings["ema_decay"] == 0.5
    assert "ema_decay" not in simclr.run.settings
    assert isinstance(simclr.run, ImageRunConfig)
    assert isinstance(supervised.run, ImageRunConfig)
    assert isinstance(ceiling.run, ImageRunConfig)
    assert (simclr.run.labels, supervised.run.labels, ceiling.run.labels) == (LabelConfig(), labels, LabelConfig())
    assert (supervised.name, ceiling.name) == ("supervised-few-labels", "supervised")


@pytest.mark.parametrize("grid", [(), ("learning-rate",), ("learning-rate=0.1,,0.2",), ("=1",)])
def test_an_unreadable_grid_is_refused(folder: Path, grid: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"--grid.*learning-rate=1e-3,2e-3"):
        plan_settings(study(folder, *grid))


def test_a_setting_that_nobody_has_is_refused(folder: Path) -> None:
    told = ("magic=0.5",)
    with pytest.raises(ValueError, match=r"--set magic: no method of this study has it; they have .*ema-decay"):
        plan_settings(study(folder, "learning-rate=0.1", told=told))
    with pytest.raises(ValueError, match="--set magic"):
        plan_methods(MethodStudyConfig(data=folder / "pack", out=folder / "out", methods=("byol",), set=told))
    with pytest.raises(ValueError, match="--set magic"):
        plan_augmentations(AugmentationStudyConfig(data=folder / "pack", out=folder / "out", set=told))

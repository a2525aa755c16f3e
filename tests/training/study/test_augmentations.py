from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.training.evaluation.tiny_runs import make_image_pack
from training.fit.image_training import build_image_training
from training.run_config import ImageRunConfig
from training.study.augmentations import draw_augmentations, gather_augmentations, plan_augmentations
from training.study.config import AugmentationStudyConfig
from training.study.table import Line


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> AugmentationStudyConfig:
    folder = tmp_path_factory.mktemp("study")
    make_image_pack(folder / "pack")
    return AugmentationStudyConfig(
        data=folder / "pack", out=folder / "out", kinds=("crop", "colour", "blur"), strengths=(0.0, 1.0), seeds=(0, 1)
    )


def test_each_kind_each_pair_and_each_strength_is_a_cell_of_every_seed(config: AugmentationStudyConfig) -> None:
    cells = plan_augmentations(config)

    once = ["crop", "crop+colour", "crop+blur", "colour", "colour+blur", "blur", "strength-0", "strength-1"]
    assert [cell.name for cell in cells] == once * 2
    assert cells[1].run.settings["kinds"] == ["flip", "crop", "colour"]
    assert cells[0].run.settings["kinds"] == ["flip", "crop"]
    assert cells[6].run.settings["strength"] == 0
    assert len({cell.run.out for cell in cells}) == 16


def test_what_a_cell_says_is_what_is_trained(config: AugmentationStudyConfig) -> None:
    from training.corpora.image_pack import ImagePack

    [cell] = [cell for cell in plan_augmentations(config) if cell.name == "colour+blur"][:1]
    assert isinstance(cell.run, ImageRunConfig)
    view, _ = build_image_training(cell.run, ImagePack.open(config.data)).method.views()
    assert (view.jitter_probability, view.blur_probability, view.flip_probability) == (0.8, 0.5, 0.5)
    assert (view.crop_scale, view.grey_probability) == ((1.0, 1.0), 0)


def line(name: str, value: float, spread: float = 0.0) -> Line:
    return Line(name=name, seeds=2, labels=0, values={"k-NN": value}, spread={"k-NN": spread})


def test_lines_become_a_symmetric_matrix_and_a_curve(config: AugmentationStudyConfig) -> None:
    pairs = {"crop": 0.5, "crop+colour": 0.9, "crop+blur": 0.6, "colour": 0.4, "colour+blur": 0.3, "blur": 0.2}
    lines = [line(name, value) for name, value in pairs.items()]
    lines += [line("strength-0", 0.5), line("strength-1", 0.8, 0.1)]

    figures = gather_augmentations(config, lines)

    assert figures.column == "k-NN"
    np.testing.assert_allclose(figures.pairs, [[0.5, 0.9, 0.6], [0.9, 0.4, 0.3], [0.6, 0.3, 0.2]])
    assert figures.strengths == {0.0: 0.5, 1.0: 0.8}
    assert figures.strength_spread == {0.0: 0.0, 1.0: 0.1}
    path = config.out / "picture.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_augmentations(figures, path, title="t")
    with Image.open(path) as picture:
        assert picture.size[0] > 800

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.evaluation.pictures import Projection, draw_map, draw_sheet, project

RNG = np.random.default_rng(0)


def test_two_axes_hold_what_varies_most() -> None:
    rows = (RNG.standard_normal((500, 5)) * [4, 2, 0.1, 0.1, 0.1] + 7).astype(np.float32)

    places, axes = project(rows)

    assert np.abs(np.corrcoef(places[:, 0], rows[:, 0])[0, 1]) > 0.99
    assert np.abs(np.corrcoef(places[:, 1], rows[:, 1])[0, 1]) > 0.99
    shares = [int(re.findall(r"(\d+)%", axis)[0]) for axis in axes]
    assert shares == [pytest.approx(80, abs=5), pytest.approx(20, abs=5)]


@pytest.mark.slow  # compiles for half a minute
@pytest.mark.filterwarnings("ignore::Warning:umap", "ignore::Warning:numba", "ignore:n_jobs:UserWarning")
def test_umap_keeps_groups_apart_and_is_drawn(tmp_path: Path) -> None:
    groups = np.arange(90) % 3
    rows = (np.eye(3)[groups] * 6 + RNG.standard_normal((90, 3))).astype(np.float32)

    places, axes = project(rows, Projection.UMAP)

    assert axes == ("UMAP 1", "UMAP 2")
    np.testing.assert_array_equal(places, project(rows, Projection.UMAP)[0])
    near = np.argsort(((places[:, None] - places[None]) ** 2).sum(axis=2), axis=1)[:, 1:6]
    assert (groups[near] == groups[:, None]).mean() > 0.95
    draw_map(rows, tmp_path / "umap.png", title="t", labels=groups, names=("a", "b", "c"), by=Projection.UMAP)
    with Image.open(tmp_path / "umap.png") as picture:
        assert picture.size[0] > 400


def test_umap_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ValueError, match=r"--map-by umap needs an extra: pip install 'diptych\[umap\]'"):
        project(np.zeros((4, 2), np.float32), Projection.UMAP)


def test_a_sheet_shows_each_query_beside_its_nearest(tmp_path: Path) -> None:
    # Three groups in three plain colours: a row of the sheet has one colour.
    groups = np.arange(30) % 3
    images = np.zeros((30, 8, 8, 3), dtype=np.uint8)
    images[np.arange(30), :, :, groups] = 255
    vectors = np.eye(3, dtype=np.float32)[groups]

    draw_sheet(images, vectors, tmp_path / "sheet.png", title="t", queries=4)

    with Image.open(tmp_path / "sheet.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    rows = np.array_split(pixels[int(0.09 * len(pixels)) :], 4)
    for row in rows:
        pure = [int(((row[:, :, c] > 240) & (row.sum(axis=2) < 300)).sum()) for c in range(3)]
        assert max(pure) > 5000
        assert sorted(pure)[1] < 0.02 * max(pure)


def test_a_map_is_drawn_with_and_without_classes(tmp_path: Path) -> None:
    rows = RNG.standard_normal((60, 4)).astype(np.float32)
    draw_map(rows, tmp_path / "plain.png", title="t")
    draw_map(rows, tmp_path / "deep/classes.png", title="t", labels=np.arange(60) % 3 - 1, names=("a", "b"))

    for name in ("plain.png", "deep/classes.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.size[0] > 400

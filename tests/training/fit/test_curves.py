from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from training.fit.curves import draw_curves


def ink(path: Path) -> int:
    """Counts pixels in the curves' colour."""
    rgb = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return int(((rgb[:, :, 2] - rgb[:, :, 0]) > 80).sum())


def test_each_figure_is_drawn(tmp_path: Path) -> None:
    one = [{"step": float(step), "epoch": 0.0, "loss": 1.0 / step} for step in range(1, 9)]
    two = [{**row, "spread": row["loss"] / 2} for row in one]

    draw_curves(one, tmp_path / "one.png", title="one")
    draw_curves(two, tmp_path / "two.png", title="two")

    assert ink(tmp_path / "one.png") > 50
    assert ink(tmp_path / "two.png") > 1.5 * ink(tmp_path / "one.png")


def test_nothing_to_draw_is_no_picture(tmp_path: Path) -> None:
    draw_curves([], tmp_path / "curves.png", title="none")

    assert list(tmp_path.iterdir()) == []

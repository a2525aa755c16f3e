from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from training.views.spec import ViewSpec


def test_rotation_and_erasing_are_off_by_default() -> None:
    spec = ViewSpec(size_px=8)
    assert (spec.rotation_degrees, spec.erase_probability) == (0, 0)


def test_strength_scales_the_colours_and_nothing_else() -> None:
    spec = ViewSpec(
        size_px=8,
        brightness=0.1,
        contrast=0.2,
        saturation=0.3,
        hue=0.04,
        blur_probability=0.5,
        solarise_probability=0.2,
        rotation_degrees=15,
        erase_probability=0.25,
    )
    before, after = asdict(spec), asdict(spec.scaled(2.0))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"brightness", "contrast", "saturation", "hue"}
    assert [after[name] for name in ("brightness", "contrast", "saturation", "hue")] == [0.2, 0.4, 0.6, 0.08]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rotation_degrees": -1}, r"rotation_degrees \(-1\) must be in \[0, 180\]"),
        ({"rotation_degrees": 181}, r"rotation_degrees \(181\)"),
        ({"rotation_degrees": float("nan")}, r"rotation_degrees \(nan\)"),
        ({"erase_probability": 1.5}, r"erase_probability \(1\.5\) must be in \[0, 1\]"),
        ({"erase_probability": -0.1}, r"erase_probability \(-0\.1\)"),
        ({"erase_scale": (0.4, 0.1)}, r"erase_scale \(0\.4, 0\.1\) must be two areas in \[0, 1\], the smaller first"),
        ({"erase_scale": (0.1, 1.1)}, r"erase_scale \(0\.1, 1\.1\)"),
        ({"erase_scale": (-0.1, 0.1)}, r"erase_scale \(-0\.1, 0\.1\)"),
        ({"erase_ratio": (0.0, 2.0)}, r"erase_ratio \(0\.0, 2\.0\) must be two positive ratios, the smaller first"),
        ({"erase_ratio": (3.0, 2.0)}, r"erase_ratio \(3\.0, 2\.0\)"),
        ({"erase_ratio": (1.0, float("inf"))}, r"erase_ratio \(1\.0, inf\)"),
    ],
)
def test_a_rotation_or_rectangle_that_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViewSpec(size_px=8, **fields)

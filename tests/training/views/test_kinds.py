from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from training.config_json import decode
from training.methods.image.simclr import SimCLRConfig
from training.views.batched import make_views
from training.views.config import ViewConfig
from training.views.kinds import ViewKind, view_of_kinds
from training.views.presets import Augmentation, view_of

STRONG = view_of(Augmentation.STRONG, 32)
IMAGES = torch.randint(0, 256, (64, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_no_kind_leaves_the_image_as_it_is() -> None:
    still = view_of_kinds(STRONG, [])
    [view] = make_views(IMAGES, [still], torch.Generator().manual_seed(1), mean=(0, 0, 0), std=(1, 1, 1))
    torch.testing.assert_close(view, IMAGES.permute(0, 3, 1, 2) / 255, atol=1e-6, rtol=0)


def test_a_kind_that_the_set_has_keeps_its_numbers_and_another_gets_usual_ones() -> None:
    crop = view_of_kinds(STRONG, ["crop"])
    assert (crop.crop_scale, crop.flip_probability, crop.jitter_probability) == ((0.2, 1.0), 0, 0)
    assert view_of_kinds(view_of(Augmentation.WEAK, 32), ["colour"]).jitter_probability == 0.8
    assert view_of_kinds(STRONG, ["solarise"]).solarise_probability == 0.2
    assert view_of_kinds(STRONG, ["rotation"]).rotation_degrees == 45
    own = ("crop", "flip", "colour", "grey", "blur")
    assert view_of_kinds(STRONG, own) == STRONG


@pytest.mark.parametrize("kind", ViewKind)
def test_every_kind_changes_the_image(kind: str) -> None:
    [view] = make_views(
        IMAGES, [view_of_kinds(STRONG, [kind])], torch.Generator().manual_seed(1), mean=(0, 0, 0), std=(1, 1, 1)
    )
    assert not torch.allclose(view, IMAGES.permute(0, 3, 1, 2) / 255, atol=1e-3)


def test_a_methods_settings_say_which_kinds() -> None:
    config = decode(SimCLRConfig, {"kinds": ["crop", "grey"], "augmentation": "strong"})
    assert config.view(32) == replace(view_of_kinds(STRONG, []), crop_scale=(0.2, 1.0), crop_ratio=(3 / 4, 4 / 3),
                                      grey_probability=0.2)  # fmt: skip
    with pytest.raises(ValueError, match=r"kinds \(wobble\): no such kind of change; there are crop, flip"):
        ViewConfig(kinds=("wobble",)).view(32)

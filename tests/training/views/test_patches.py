from __future__ import annotations

import pytest
import torch

from training.views.patches import PatchConfig, PatchGrid, standardise
from training.views.presets import Augmentation, view_of

GRID = PatchGrid(3, 7, 4)
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("image_size_px", "side", "share", "expected"),
    [
        (255, 3, 64 / 85, PatchGrid(3, 85, 64)),  # the papers'
        (32, 2, 0.75, PatchGrid(2, 16, 12)),
        (32, 3, 0.75, PatchGrid(3, 10, 8)),
        (16, 2, 0.75, PatchGrid(2, 10, 8)),  # shown at 20 px
        (32, 2, 0.99, PatchGrid(2, 16, 15)),
    ],
)
def test_cells_follow_the_images(image_size_px: int, side: int, share: float, expected: PatchGrid) -> None:
    assert PatchGrid.of(image_size_px, side=side, patch_share=share) == expected


def test_patches_are_cut_out_where_told() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 21, 21, generator=generator)
    offsets = torch.randint(0, 4, (2, 9, 2), generator=generator)

    patches = GRID.cut(images, offsets)

    for image in range(2):
        for cell in range(9):
            row, column = offsets[image, cell].tolist()
            top, left = cell // 3 * 7 + row, cell % 3 * 7 + column
            assert torch.equal(patches[image, cell], images[image, :, top : top + 4, left : left + 4])


def test_every_place_is_drawn_and_patches_never_touch() -> None:
    torch.manual_seed(0)
    offsets = GRID.draw(500, device=CPU)
    assert set(offsets.flatten().tolist()) == {0, 1, 2}
    y, x = torch.meshgrid(torch.arange(21), torch.arange(21), indexing="ij")
    places = torch.stack([y, x]).expand(500, -1, -1, -1)
    patches = GRID.cut(places, offsets).reshape(500, 3, 3, 2, 4, 4)  # [500, 3, 3, 2, 4, 4]
    down = patches[:, 1:, :, 0].amin(dim=(-2, -1)) - patches[:, :-1, :, 0].amax(dim=(-2, -1))
    across = patches[:, :, 1:, 1].amin(dim=(-2, -1)) - patches[:, :, :-1, 1].amax(dim=(-2, -1))
    assert min(int(down.min()), int(across.min())) == 2  # 1 is side by side


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images must be of 21 px, got \[20, 21\]"):
        GRID.cut(torch.zeros(1, 3, 20, 21), torch.zeros(1, 9, 2, dtype=torch.int64))


def test_patches_that_fill_their_cell_are_refused() -> None:
    with pytest.raises(ValueError, match=r"patch_px in \[1, cell_px \(7\)\)|patch_px \(7\)"):
        PatchGrid(3, 7, 7)


def test_standardised_patches_tell_nothing_of_brightness_contrast_and_tint() -> None:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(2, 4, 3, 8, 8, generator=generator)
    scale, shift = torch.rand(2, 2, 4, 3, 1, 1, generator=generator) + 0.5

    found = standardise(patches)

    torch.testing.assert_close(found.mean(dim=(-2, -1)), torch.zeros(2, 4, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.square().mean(dim=(-2, -1)), torch.ones(2, 4, 3))
    torch.testing.assert_close(standardise(patches * scale + shift), found, atol=1e-5, rtol=1e-4)


def test_a_patch_of_one_colour_is_nothing_and_faint_noise_stays_faint() -> None:
    assert standardise(torch.full((1, 3, 8, 8), 0.7)).abs().max() < 1e-5
    noise = 0.001 * torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert standardise(noise).abs().max() < 0.05
    assert standardise(noise.to(torch.bfloat16)).dtype == torch.float32


def test_the_view_is_a_weak_one_mostly_grey() -> None:
    view, weak = PatchConfig().patch_view(30), view_of(Augmentation.WEAK, 30, smallest_crop=0.76)
    assert view.grey_probability == 0.66
    assert (view.size_px, view.crop_scale, view.jitter_probability) == (30, (0.76, 1.0), weak.jitter_probability)

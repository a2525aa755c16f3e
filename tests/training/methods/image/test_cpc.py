from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.training.methods.pictures import SIZE_PX, image_batch, part, small_encoder
from training.methods.base import ImageBatch, MethodContext, Progress
from training.methods.image.cpc import CPC, CPCConfig, PatchGrid, RowGRU, cpc_scores

CONTEXT = MethodContext(dataset_size=400, batch_size=64, image_size_px=SIZE_PX)
SIDE_BY_SIDE = CPCConfig(grid_size=4, overlap=0.0, patch_crop=1.0, largest_step=3, context_width=24)
OVERLAPPING = CPCConfig(grid_size=5, overlap=0.5, patch_crop=1.0, largest_step=4, context_width=24)
START = Progress(step=0, max_steps=100, epoch=0)


def method(config: CPCConfig = SIDE_BY_SIDE) -> CPC:
    return CPC(small_encoder(seed=0), config, context=CONTEXT)


def batch(cpc: CPC, count: int = 6) -> ImageBatch:
    return image_batch(cpc.views(), count=count, step=0)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def patches_of(cpc: CPC, images: Tensor) -> Tensor:
    grid = cpc.grid.grid_size
    z: Tensor = cpc.norm(cpc.encoder(cpc.grid.cut(images)))
    return z.view(len(images), grid, grid, -1)


@pytest.mark.parametrize("step", [1, 2])
def test_scores_and_positives_equal_a_naive_loop(step: int) -> None:
    predictions, patches = noise(2, 3 - step, 3, 5), noise(4, 3, 3, 5, seed=1)
    scores, positives = cpc_scores(predictions, patches, step=step, first=1)
    query = 0
    for image in range(2):
        for row in range(3 - step):
            for column in range(3):
                flat = (image + 1) * 9 + (row + step) * 3 + column
                assert positives[query] == flat
                for other, patch in enumerate(patches.view(-1, 5)):
                    product = sum(float(a * b) for a, b in zip(predictions[image, row, column], patch, strict=True))
                    assert scores[query, other].item() == pytest.approx(product, abs=1e-5)
                query += 1
    assert query == len(scores) == len(positives)


def test_scores_are_neither_normalised_nor_divided() -> None:
    predictions, patches = noise(2, 2, 3, 5), noise(2, 3, 3, 5, seed=1)
    single, _ = cpc_scores(predictions, patches, step=1)
    torch.testing.assert_close(cpc_scores(3 * predictions, 2 * patches, step=1)[0], 6 * single)


def test_loss_is_the_mean_over_the_steps_of_the_papers() -> None:
    cpc = method()
    images = batch(cpc)
    z = patches_of(cpc, images.views[0])
    c, flat = cpc.context(z), z.reshape(-1, 32)
    total = 0.0
    for step, predictor in zip((1, 2, 3), cpc.predictors, strict=True):
        below = [
            -(flat @ predictor(c[image, row, column])).log_softmax(dim=0)[image * 16 + (row + step) * 4 + column]
            for image in range(6)
            for row in range(4 - step)
            for column in range(4)
        ]
        total += torch.stack(below).mean().item() / 3
    output = cpc.loss(images, START)
    assert output.loss.item() == pytest.approx(total, abs=1e-5)
    assert float(output.metrics["information_nats"]) == pytest.approx(math.log(96) - total, abs=1e-5)
    torch.testing.assert_close(output.projections, flat.detach())


def test_equal_scores_give_the_log_of_the_patches() -> None:
    cpc = method()
    for predictor in cpc.predictors.parameters():
        nn.init.zeros_(predictor)
    output = cpc.loss(batch(cpc), START)
    assert output.loss.item() == pytest.approx(math.log(6 * 16), abs=1e-5)
    assert float(output.metrics["information_nats"]) == pytest.approx(0, abs=1e-5)
    assert float(output.metrics["accuracy"]) == 0


def test_the_loss_starts_near_the_log_of_the_patches() -> None:
    cpc = method()
    assert cpc.loss(batch(cpc), START).loss.item() == pytest.approx(math.log(6 * 16), abs=0.2)


def test_a_context_knows_its_row_and_those_above_and_nothing_below() -> None:
    gru = RowGRU(8, 6)
    patches = noise(2, 5, 5, 8).requires_grad_()
    for row in range(5):
        [gradient] = torch.autograd.grad(gru(patches)[:, row, 2].sum(), patches)
        reached = gradient.abs().amax(dim=(0, 2, 3)) > 0
        assert reached.tolist() == [place <= row for place in range(5)]
    assert gru(patches).abs().max() < 1


def test_down_a_single_column_it_is_a_gated_recurrent_unit() -> None:
    gru, patches = RowGRU(8, 6), noise(2, 4, 1, 8)
    inputs, gates, candidate = (
        (part(gru, n).weight[:, :, 1], part(gru, n).bias) for n in ("inputs", "gates", "candidate")
    )
    state = torch.zeros(2, 6)
    contexts = gru(patches)
    for row in range(4):
        x_update, x_reset, x_candidate = (patches[:, row, 0] @ inputs[0].T + inputs[1]).chunk(3, dim=1)
        h_update, h_reset = (state @ gates[0].T + gates[1]).chunk(2, dim=1)
        update, reset = torch.sigmoid(x_update + h_update), torch.sigmoid(x_reset + h_reset)
        new = torch.tanh(x_candidate + (reset * state) @ candidate[0].T + candidate[1])
        state = (1 - update) * state + update * new
        torch.testing.assert_close(contexts[:, row, 0], state)


@pytest.mark.parametrize("config", [SIDE_BY_SIDE, OVERLAPPING, replace(SIDE_BY_SIDE, grid_size=3, largest_step=2)])
def test_pixels_of_the_patches_to_foretell_change_no_prediction(config: CPCConfig) -> None:
    # Without BatchNorm's statistics, which tell each patch of all others, if faintly.
    cpc = method(config).eval()
    images = batch(cpc).views[0]
    contexts = cpc.context(patches_of(cpc, images))
    for step in cpc.steps:
        for row in range(config.grid_size - step):
            top = cpc.grid.start(row + step)
            changed = images.clone()
            changed[:, :, top : top + cpc.grid.patch_px] += 1
            again = patches_of(cpc, changed)
            torch.testing.assert_close(cpc.context(again)[:, row], contexts[:, row])
            assert (again[:, row + step] - patches_of(cpc, images)[:, row + step]).abs().max() > 1e-2


@pytest.mark.parametrize("image_px", [16, 28, 32, 33, 224])
@pytest.mark.parametrize(("grid_size", "overlap"), [(7, 0.5), (4, 0.5), (5, 0.3), (3, 0.0), (7, 0.75), (4, 2 / 3)])
def test_rows_a_first_step_apart_share_no_pixel(image_px: int, grid_size: int, overlap: float) -> None:
    config = CPCConfig(grid_size=grid_size, overlap=overlap, largest_step=grid_size - 1)
    grid = PatchGrid(config, image_px)
    assert grid.start(0) == 0
    assert grid.start(grid_size - 1) + grid.patch_px == image_px
    for row in range(grid_size - config.first_step):
        assert grid.start(row + config.first_step) >= grid.start(row) + grid.patch_px


def test_the_papers_grid_is_seven_by_seven_of_a_quarter_half_overlapping() -> None:
    config = CPCConfig()
    grid = PatchGrid(config, 256)
    assert (grid.patch_px, grid.shown_px) == (64, 60)
    assert [grid.start(row) for row in range(7)] == [0, 32, 64, 96, 128, 160, 192]
    assert (config.first_step, config.largest_step) == (2, 5)


def test_patches_are_cut_row_by_row_and_enlarged() -> None:
    grid = PatchGrid(SIDE_BY_SIDE, SIZE_PX)
    images = torch.arange(2 * 3 * 256, dtype=torch.float32).view(2, 3, 16, 16)
    patches = grid.cut(images).view(2, 4, 4, 3, 16, 16)
    expected = nn.functional.interpolate(images[1:, :, 4:8, 8:12], size=16, mode="bilinear")[0]
    torch.testing.assert_close(patches[1, 1, 2], expected)
    assert patches[0, 0, 0, 0, 0, 0] == images[0, 0, 0, 0]
    assert patches[1, 3, 3, 2, 15, 15] == images[1, 2, 15, 15]


def test_shown_parts_move_within_their_patches_from_step_to_step() -> None:
    grid = PatchGrid(replace(SIDE_BY_SIDE, patch_crop=0.5), SIZE_PX)
    ramp = torch.arange(16.0).expand(1, 3, 16, 16)  # a pixel is its column
    torch.manual_seed(0)
    means = [grid.cut(ramp).view(4, 4, -1).mean(dim=2) for _ in range(40)]
    starts = torch.stack(means).sub(0.5).round().sub(torch.arange(0, 16, 4))
    assert set(starts.flatten().tolist()) == {0, 1, 2}
    torch.manual_seed(0)
    torch.testing.assert_close(grid.cut(ramp).view(4, 4, -1).mean(dim=2), means[0])


def test_negatives_are_all_other_patches_of_the_batch_the_images_own_too() -> None:
    patches = noise(3, 4, 4, 5).requires_grad_()
    scores, positives = cpc_scores(noise(3, 3, 4, 5), patches, step=1)
    assert scores.shape == (36, 48)
    torch.autograd.backward(scores[0].exp().sum())
    assert patches.grad is not None
    assert (patches.grad.abs().amax(dim=3) > 0).all()
    assert len(set(positives.tolist())) == 36


def test_the_kept_encoders_averages_follow_whole_images() -> None:
    cpc = method()
    images = batch(cpc).views[0]
    whole = copy.deepcopy(cpc.encoder)
    whole(images)
    cpc.loss(ImageBatch((images,), torch.arange(len(images))), START)
    for name in ("running_mean", "running_var"):
        found = part(cpc, f"encoder.backbone.4.{name}")
        torch.testing.assert_close(found, part(whole, f"backbone.4.{name}"))
    assert {module.momentum for module in cpc.encoder.modules() if isinstance(module, nn.BatchNorm2d)} == {0.1}


def test_a_frozen_encoders_averages_stay() -> None:
    cpc = method()
    cpc.encoder.eval()
    before = part(cpc, "encoder.backbone.1.running_mean").clone()
    cpc.loss(batch(cpc), START)
    assert torch.equal(part(cpc, "encoder.backbone.1.running_mean"), before)


def test_context_and_predictions_are_free_of_batch_norm() -> None:
    cpc = method()
    outside = [module for name, module in cpc.named_modules() if not name.startswith("encoder")]
    assert not any("BatchNorm" in type(module).__name__ for module in outside)
    assert [tuple(p.shape) for p in cpc.predictors.parameters()] == [(32, 24)] * 3


def test_every_part_learns() -> None:
    cpc = method(OVERLAPPING)
    torch.autograd.backward(cpc.loss(batch(cpc), START).loss)
    for name, parameter in cpc.named_parameters():
        assert parameter.grad is not None, name
    assert part(cpc, "encoder.backbone.0.weight").grad.abs().max() > 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_nearly_the_same_in_fp32(dtype: torch.dtype) -> None:
    cpc = method()
    images = batch(cpc)
    expected = cpc.loss(images, START).loss
    with torch.autocast("cpu", dtype=dtype):
        loss = cpc.loss(images, START).loss
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, atol=2e-2, rtol=0)


def test_the_view_is_grey_crop_and_flip_as_in_the_paper() -> None:
    [view] = method().views()
    assert (view.grey_probability, view.jitter_probability, view.flip_probability) == (1.0, 0.0, 0.5)
    assert view.crop_scale == (0.73, 1.0)
    [coloured] = method(replace(SIDE_BY_SIDE, grey_probability=0.5)).views()
    assert coloured.grey_probability == 0.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("grid_size", 1),
        ("overlap", 1.0),
        ("overlap", -0.1),
        ("patch_crop", 0.0),
        ("largest_step", 1),  # patches that overlap by half share pixels with the next row
        ("largest_step", 7),
        ("context_width", 0),
        ("grey_probability", 1.5),
    ],
)
def test_bad_settings_are_refused(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"{name} \({value}\)"):
        CPCConfig(**settings)


def test_an_image_too_small_for_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match=r"grid_size \(20\) leaves 1 px"):
        method(CPCConfig(grid_size=20))


def test_shapes_that_do_not_fit_are_refused() -> None:
    for predictions, patches in (
        ((2, 3, 4, 5), (2, 3, 3, 5)),
        ((2, 2, 3, 5), (2, 3, 4, 5)),
        ((3, 2, 3, 5), (2, 3, 3, 5)),
    ):
        with pytest.raises(ValueError, match="at step 1"):
            cpc_scores(noise(*predictions), noise(*patches), step=1)


def test_it_learns_to_foretell() -> None:
    cpc = method(CPCConfig(grid_size=3, overlap=0.0, largest_step=2, context_width=32))
    optimiser = torch.optim.Adam(cpc.parameters(), lr=0.01)
    information = []
    for step in range(10):
        torch.manual_seed(step)
        output = cpc.loss(image_batch(cpc.views(), count=8, step=step), START)
        optimiser.zero_grad()
        torch.autograd.backward(output.loss)
        optimiser.step()
        information.append(float(output.metrics["information_nats"]))
    assert information[0] < 0.1
    assert information[-1] > 0.7

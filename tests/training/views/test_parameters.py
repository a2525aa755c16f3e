from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import RandomErasing, RandomResizedCrop  # type: ignore[import-untyped]  # ships no types

from training.views.parameters import ViewParameters, draw_parameters
from training.views.spec import ViewSpec

SPEC = ViewSpec(
    size_px=32,
    crop_scale=(0.08, 1.0),
    blur_probability=0.5,
    solarise_probability=0.2,
    rotation_degrees=25.0,
    erase_probability=0.3,
)
CPU = torch.device("cpu")


def draw(spec: ViewSpec = SPEC, count: int = 4000, size: tuple[int, int] = (32, 32), seed: int = 0) -> ViewParameters:
    return draw_parameters(spec, (count, *size), torch.Generator().manual_seed(seed), device=CPU)


def largest_gap(ours: Tensor, theirs: Tensor) -> float:
    """Returns the Kolmogorov-Smirnov distance of two samples."""
    points = torch.unique(torch.cat([ours, theirs]))
    below = [torch.searchsorted(sample.sort().values, points, right=True) / len(sample) for sample in (ours, theirs)]
    return float((below[0] - below[1]).abs().max())


@pytest.mark.parametrize("size", [(32, 32), (20, 60)])
def test_boxes_are_distributed_as_torchvisions(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    transform = RandomResizedCrop(32, scale=SPEC.crop_scale, ratio=SPEC.crop_ratio)
    image = torch.zeros(3, *size)
    drawn = [transform.make_params([image]) for _ in range(4000)]
    theirs = torch.tensor([[d["top"], d["left"], d["height"], d["width"]] for d in drawn]).float()
    ours = draw(size=size).boxes
    for column in range(4):
        # Of two samples of 4000 from one distribution the distance exceeds 0.044 once in a thousand.
        assert largest_gap(ours[:, column], theirs[:, column]) < 0.044
    areas = [boxes[:, 2] * boxes[:, 3] for boxes in (ours, theirs)]
    assert largest_gap(areas[0], areas[1]) < 0.044


def test_boxes_are_whole_pixels_inside_the_image() -> None:
    boxes = draw(size=(20, 60)).boxes
    torch.testing.assert_close(boxes, boxes.round(), rtol=0, atol=0)
    assert boxes[:, :2].min() >= 0
    assert boxes[:, 2:].min() >= 1
    assert (boxes[:, 0] + boxes[:, 2]).max() <= 20
    assert (boxes[:, 1] + boxes[:, 3]).max() <= 60


@pytest.mark.parametrize(("size", "box"), [((10, 100), [0, 43, 10, 13]), ((100, 10), [43, 0, 13, 10])])
def test_where_no_box_fits_the_central_one_is_taken(size: tuple[int, int], box: list[float]) -> None:
    whole = replace(SPEC, crop_scale=(1.0, 1.0))
    assert draw(whole, count=5, size=size).boxes.tolist() == [box] * 5


def test_changes_happen_as_often_as_told() -> None:
    drawn = draw(count=8000)
    jittered, erased = drawn.hue != 0, drawn.erase_boxes.sum(dim=1) > 0
    for chosen, chance in [
        (drawn.flip, 0.5),
        (jittered, 0.8),
        (drawn.grey, 0.2),
        (drawn.blur, 0.5),
        (drawn.solarise, 0.2),
        (jittered & drawn.flip, 0.4),
        (jittered & drawn.grey, 0.16),
        (erased, 0.3),
        (erased & drawn.flip, 0.15),
        (erased & (drawn.rotation_degrees > 0), 0.15),
        (drawn.flip & (drawn.rotation_degrees > 12.5), 0.125),
    ]:
        error = 4 * math.sqrt(chance * (1 - chance) / 8000)
        assert chosen.float().mean().item() == pytest.approx(chance, abs=error)


def test_factors_are_uniform_and_neutral_where_nothing_is_jittered() -> None:
    drawn = draw(replace(SPEC, brightness=0.8, contrast=0.4, saturation=1.5))
    jittered = drawn.hue != 0
    even = torch.linspace(0, 1, 4001)
    for factor, low, high in [
        (drawn.brightness, 0.2, 1.8),
        (drawn.contrast, 0.6, 1.4),
        (drawn.saturation, 0.0, 2.5),
        (drawn.hue + 1, 0.9, 1.1),
    ]:
        assert set(factor[~jittered].tolist()) == {1.0}
        assert largest_gap(factor[jittered], low + even * (high - low)) < 0.05
    assert largest_gap(drawn.blur_sigma_px * 7, 0.1 + even * 1.9) < 0.05  # 224 / 32 = 7


@pytest.mark.parametrize(
    ("scale", "ratio"),
    [((0.02, 0.33), (0.3, 3.3)), ((0.0, 0.02), (0.5, 2.0)), ((0.1, 0.5), (1.5, 6.0)), ((0.9, 1.0), (0.8, 2.0))],
    ids=["torchvisions", "tiny", "high", "seldom-fits"],
)
def test_erased_rectangles_are_distributed_as_torchvisions(
    scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    torch.manual_seed(0)
    transform, image = RandomErasing(1.0, scale=scale, ratio=ratio), torch.zeros(3, 24, 24)
    drawn = [transform.make_params([image]) for _ in range(4000)]
    theirs = torch.tensor([[0] * 4 if d["v"] is None else [d["i"], d["j"], d["h"], d["w"]] for d in drawn]).float()
    always = replace(SPEC, size_px=24, erase_probability=1.0, erase_scale=scale, erase_ratio=ratio)
    ours = draw(always).erase_boxes
    for column in range(4):
        assert largest_gap(ours[:, column], theirs[:, column]) < 0.044  # as for the crops
    top, left, height, width = range(4)
    for one, other in [(height, width), (top, left), (top, height), (left, width)]:  # and together
        assert largest_gap(ours[:, one] - ours[:, other], theirs[:, one] - theirs[:, other]) < 0.044
    assert largest_gap(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]) < 0.044


def test_erased_rectangles_are_whole_pixels_inside_the_view() -> None:
    boxes = draw(replace(SPEC, size_px=20, erase_probability=1.0, erase_scale=(0.3, 0.95))).erase_boxes
    torch.testing.assert_close(boxes, boxes.round(), rtol=0, atol=0)
    assert boxes.min() >= 0
    assert boxes[:, 2:].max() == 19
    assert (boxes[:, 0] + boxes[:, 2]).max() == 20
    assert (boxes[:, 1] + boxes[:, 3]).max() == 20


def test_a_rectangle_that_never_fits_erases_nothing() -> None:
    whole = replace(SPEC, erase_probability=1.0, erase_scale=(1.0, 1.0), erase_ratio=(1.0, 1.0))
    assert draw(whole, count=50).erase_boxes.abs().max() == 0


def test_angles_are_uniform_on_both_sides() -> None:
    angles = draw().rotation_degrees
    assert largest_gap(angles, torch.linspace(-25, 25, 4001)) < 0.044
    assert angles.mean().item() == pytest.approx(0, abs=4 * 25 / math.sqrt(3 * 4000))
    assert angles.abs().max() <= 25


def test_one_of_rotation_and_erasing_does_not_move_the_others_draws() -> None:
    both, turned, erased = draw(), draw(replace(SPEC, erase_probability=0.0)), draw(replace(SPEC, rotation_degrees=0.0))
    assert torch.equal(turned.rotation_degrees, both.rotation_degrees)
    assert torch.equal(erased.erase_boxes, both.erase_boxes)
    assert turned.erase_boxes.abs().max() == erased.rotation_degrees.abs().max() == 0


def test_without_rotation_and_erasing_a_view_draws_what_it_did_before_there_were_any() -> None:
    neither = replace(SPEC, rotation_degrees=0.0, erase_probability=0.0)
    generator, before = (torch.Generator().manual_seed(3) for _ in range(2))
    plain = draw_parameters(neither, (5, 32, 32), generator, device=CPU)
    torch.randperm(4, generator=before)
    uniforms = torch.rand(5, 32, generator=before)
    assert torch.equal(plain.flip, uniforms[:, 22] < 0.5)
    assert torch.equal(generator.get_state(), before.get_state())  # so the views after it are the same too
    with_both = draw(count=5, seed=3)
    for field in fields(ViewParameters):
        if field.name not in ("order", "rotation_degrees", "erase_boxes"):
            assert torch.equal(getattr(plain, field.name), getattr(with_both, field.name))


def test_every_order_of_the_colour_changes_comes_equally_often() -> None:
    generator = torch.Generator().manual_seed(0)
    orders = [draw_parameters(SPEC, (1, 8, 8), generator, device=CPU).order for _ in range(1200)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 24
    assert max(counts) < 50 + 4 * math.sqrt(50)


def test_equal_generators_draw_equally_and_others_differ() -> None:
    one, same, other = draw(seed=1), draw(seed=1), draw(seed=2)
    for field in fields(ViewParameters):
        value = getattr(one, field.name)
        if field.name == "order":
            assert value == same.order
        else:
            torch.testing.assert_close(value, getattr(same, field.name), rtol=0, atol=0)
            assert not torch.equal(value, getattr(other, field.name))


def test_a_part_holds_its_images_parameters() -> None:
    drawn = draw(count=10)
    part = drawn.part(3, 7)
    torch.testing.assert_close(part.boxes, drawn.boxes[3:7])
    torch.testing.assert_close(part.hue, drawn.hue[3:7])
    assert part.order == drawn.order

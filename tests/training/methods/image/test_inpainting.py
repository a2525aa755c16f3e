from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.methods.pictures import SIZE_PX, image_batch, small_encoder
from training.methods.base import ImageBatch, MethodContext, Progress
from training.methods.image.inpainting import (
    HiddenRegion,
    Inpainting,
    InpaintingConfig,
    hide,
    hide_blocks,
    hide_centre,
    inpainting_loss,
)
from training.views.presets import Augmentation, view_of

CONTEXT = MethodContext(dataset_size=400, batch_size=64, image_size_px=SIZE_PX)
START = Progress(step=0, max_steps=100, epoch=0)
CPU = torch.device("cpu")
SMALL = InpaintingConfig(decoder_channels=32)
BLOCKS = replace(SMALL, region=HiddenRegion.BLOCKS)


def method(config: InpaintingConfig = SMALL) -> Inpainting:
    return Inpainting(small_encoder(seed=0), config, context=CONTEXT)


def random_case(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images, reconstructions = torch.randn(2, 4, 3, 6, 6, generator=generator)
    return reconstructions, images, torch.rand(4, 6, 6, generator=generator) < 0.3


def test_loss_equals_the_worked_number() -> None:
    images, hidden = torch.rand(1, 1, 2, 2), torch.tensor([[[True, False], [False, False]]])
    # Over all four pixels it would be a quarter of this.
    assert inpainting_loss(images + 0.5, images, hidden).item() == pytest.approx(0.25, abs=1e-5)


def test_loss_is_each_image_s_mean_over_what_is_hidden() -> None:
    reconstructions, images, hidden = random_case()
    assert len({int(each.sum()) for each in hidden}) > 1
    terms = []
    for rebuilt, image, mask in zip(reconstructions, images, hidden, strict=True):
        places = mask.nonzero().tolist()
        errors = [float(rebuilt[c, y, x] - image[c, y, x]) ** 2 for c in range(3) for y, x in places]
        terms.append(sum(errors) / len(errors))
    assert inpainting_loss(reconstructions, images, hidden).item() == pytest.approx(sum(terms) / 4, abs=1e-5)


def test_what_is_seen_gets_no_gradient() -> None:
    reconstructions, images, hidden = random_case()
    reconstructions.requires_grad_()
    torch.autograd.backward(inpainting_loss(reconstructions, images, hidden))
    assert reconstructions.grad is not None
    mask = hidden[:, None].expand_as(images)
    assert not reconstructions.grad[~mask].any()
    assert reconstructions.grad[mask].abs().min() > 0


def test_an_image_with_nothing_hidden_counts_as_0() -> None:
    reconstructions, images, hidden = random_case()
    hidden[1] = False
    kept = [0, 2, 3]
    expected = inpainting_loss(reconstructions[kept], images[kept], hidden[kept]) * 3 / 4
    torch.testing.assert_close(inpainting_loss(reconstructions, images, hidden), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loss_of_half_precision_images_is_fp32_and_near(dtype: torch.dtype) -> None:
    reconstructions, images, hidden = random_case()
    found = inpainting_loss(reconstructions.to(dtype), images.to(dtype), hidden)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(inpainting_loss(reconstructions, images, hidden).item(), abs=2e-2)


@pytest.mark.parametrize(("size_px", "first", "last"), [(128, 32, 95), (32, 8, 23), (16, 4, 11)])
def test_the_centre_is_half_as_wide_as_the_image(size_px: int, first: int, last: int) -> None:
    hidden = hide_centre(2, size_px, share=0.25, device=CPU)
    expected = torch.zeros(size_px, size_px, dtype=torch.bool)
    expected[first : last + 1, first : last + 1] = True
    assert torch.equal(hidden, expected.expand(2, -1, -1))


def test_blocks_lie_where_they_were_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    corners = torch.tensor([[[0, 3], [5, 5]], [[2, 2], [3, 1]]])
    monkeypatch.setattr(torch, "randint", lambda *_args, **_kwargs: corners)
    hidden = hide_blocks(2, 8, share=0.25, blocks=2, device=CPU)  # of 8 / sqrt(8), rounded to 3 px
    expected = torch.zeros(2, 8, 8, dtype=torch.bool)
    for image, squares in enumerate(corners.tolist()):
        for top, left in squares:
            expected[image, top : top + 3, left : left + 3] = True
    assert torch.equal(hidden, expected)


def test_blocks_reach_every_pixel_differ_by_image_and_hide_at_most_their_share() -> None:
    torch.manual_seed(0)
    hidden = hide_blocks(500, 16, share=0.25, blocks=4, device=CPU)
    areas = hidden.float().mean(dim=(1, 2))
    assert hidden.any(dim=0).all()
    assert not torch.equal(hidden[0], hidden[1])
    assert (float(areas.max()), bool(areas.min() > 1 / 16)) == (0.25, True)


def test_a_hole_is_the_mean_colour() -> None:
    _, images, hidden = random_case()
    shown = hide(images, hidden)
    mask = hidden[:, None].expand_as(images)
    assert not shown[mask].any()
    assert torch.equal(shown[~mask], images[~mask])


@pytest.mark.parametrize("config", [SMALL, BLOCKS])
def test_the_encoder_learns_nothing_of_what_is_hidden(config: InpaintingConfig) -> None:
    inpainting = method(config)
    seen: list[Tensor] = []
    inpainting.encoder.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    images = image_batch(inpainting.views(), count=4, step=0).views[0]
    torch.manual_seed(3)
    hidden = inpainting._hidden(images)
    for shown in (images, torch.where(hidden[:, None], images + 7, images)):
        torch.manual_seed(3)
        inpainting.loss(ImageBatch((shown,), torch.arange(4)), START)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], hide(images, hidden))


def test_the_target_is_the_image_before_anything_was_hidden() -> None:
    inpainting = method()
    images = image_batch(inpainting.views(), count=4, step=0).views[0]
    hidden = hide_centre(4, SIZE_PX, share=0.25, device=CPU)
    output = inpainting.loss(ImageBatch((images,), torch.arange(4)), START)
    rebuilt = inpainting.decoder(inpainting.encoder(hide(images, hidden)))
    torch.testing.assert_close(output.loss, inpainting_loss(rebuilt, images, hidden))
    blank = images[hidden[:, None].expand_as(images)].square().mean()
    assert float(output.metrics["explained"]) == pytest.approx(1 - (output.loss / blank).item(), abs=1e-5)


def test_the_view_is_weak() -> None:
    assert method().views() == (view_of(Augmentation.WEAK, SIZE_PX),)


@pytest.mark.parametrize(
    ("name", "value"), [("hidden_share", 0.0), ("hidden_share", 1.0), ("block_count", 0), ("decoder_channels", 0)]
)
def test_bad_settings_are_refused(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"{name} \({value}\)"):
        InpaintingConfig(**settings)


@pytest.mark.parametrize("config", [SMALL, BLOCKS])
def test_it_learns_to_fill_an_image_with_its_colour(config: InpaintingConfig) -> None:
    inpainting = method(config)
    optimiser = torch.optim.Adam(inpainting.parameters(), lr=0.005)
    colours = torch.randn(16, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    images = colours.expand(-1, -1, SIZE_PX, SIZE_PX)
    for step in range(20):
        torch.manual_seed(step)
        output = inpainting.loss(ImageBatch((images,), torch.arange(16)), START)
        optimiser.zero_grad()
        torch.autograd.backward(output.loss)
        optimiser.step()
    assert float(output.metrics["explained"]) > 0.8

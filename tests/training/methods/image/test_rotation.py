from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.methods.pictures import SIZE_PX, image_batch, part, small_encoder
from training.methods.base import ImageBatch, MethodContext, Progress
from training.methods.image.rotation import Rotation, RotationConfig, rotation_loss, turn_four_ways
from training.views.presets import Augmentation, view_of

CONTEXT = MethodContext(dataset_size=400, batch_size=64, image_size_px=SIZE_PX)
START = Progress(step=0, max_steps=100, epoch=0)
CORNERS = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]


def method(config: RotationConfig | None = None) -> Rotation:
    return Rotation(small_encoder(seed=0), config or RotationConfig(), context=CONTEXT)


def pictures() -> Tensor:
    return torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def test_turns_are_the_worked_ones() -> None:
    turned, labels = turn_four_ways(CORNERS)
    expected = [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]
    assert turned[:, 0].tolist() == expected
    assert labels.tolist() == [0, 1, 2, 3]


def test_turns_are_numpys_and_an_image_s_four_stand_together() -> None:
    images = pictures()
    turned, labels = turn_four_ways(images)
    assert len(turned) == len(labels) == 20
    for row, (found, label) in enumerate(zip(turned, labels.tolist(), strict=True)):
        assert label == row % 4
        np.testing.assert_array_equal(found.numpy(), np.rot90(images[row // 4].numpy(), k=label, axes=(1, 2)))


def test_four_quarter_turns_are_none() -> None:
    images = found = pictures()
    for _ in range(4):
        found = turn_four_ways(found)[0][1::4]
    assert torch.equal(found, images)


def test_half_a_turn_is_no_vertical_flip() -> None:
    assert not torch.equal(turn_four_ways(CORNERS)[0][2], CORNERS[0].flip(1))


def test_images_that_are_not_square_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[n, c, s, s\], got \[1, 3, 4, 5\]"):
        turn_four_ways(torch.zeros(1, 3, 4, 5))


def test_loss_is_a_naive_cross_entropy_and_log_4_by_chance() -> None:
    assert rotation_loss(torch.zeros(8, 4), torch.arange(4).repeat(2)).item() == pytest.approx(1.386294, abs=1e-5)
    logits = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 3, 1, 2, 2, 0, 1, 3])
    terms = [-math.log(math.exp(r[k]) / sum(map(math.exp, r))) for r, k in zip(logits.tolist(), labels, strict=True)]
    assert rotation_loss(logits, labels).item() == pytest.approx(sum(terms) / 8, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loss_of_half_precision_logits_is_fp32_and_near(dtype: torch.dtype) -> None:
    logits, labels = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.arange(4).repeat(2)
    found = rotation_loss(logits.to(dtype), labels)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(rotation_loss(logits, labels).item(), abs=2e-2)


def test_all_four_turns_of_every_image_pass_through_in_one_batch() -> None:
    rotation = method()
    seen: list[Tensor] = []
    rotation.encoder.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    batch = image_batch(rotation.views(), count=6, step=0)
    before = int(part(rotation, "encoder.backbone.1.num_batches_tracked"))

    output = rotation.loss(batch, START)

    assert torch.equal(seen[0], turn_four_ways(batch.views[0])[0])
    assert int(part(rotation, "encoder.backbone.1.num_batches_tracked")) == before + 1
    logits = rotation.classifier(output.projections)
    torch.testing.assert_close(output.loss, rotation_loss(logits, torch.arange(4).repeat(6)))
    hits = logits.argmax(dim=1) == torch.arange(4).repeat(6)
    assert float(output.metrics["accuracy"]) == pytest.approx(hits.float().mean().item())


def test_the_view_is_cropped_a_little_and_flipped() -> None:
    assert method().views() == (view_of(Augmentation.WEAK, SIZE_PX, smallest_crop=0.76),)
    assert method(RotationConfig(smallest_crop=0.5)).views()[0].crop_scale == (0.5, 1.0)


def test_it_learns_which_way_is_up() -> None:
    rotation = method()
    optimiser = torch.optim.Adam(rotation.parameters(), lr=0.01)
    sky = torch.linspace(1, -1, SIZE_PX)[:, None].expand(3, SIZE_PX, SIZE_PX)
    for step in range(15):
        torch.manual_seed(step)
        images = sky + 0.3 * torch.randn(16, 3, SIZE_PX, SIZE_PX)
        output = rotation.loss(ImageBatch((images,), torch.arange(16)), START)
        optimiser.zero_grad()
        torch.autograd.backward(output.loss)
        optimiser.step()
    assert float(output.metrics["accuracy"]) > 0.9

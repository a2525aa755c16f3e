from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from models.config import ImageEncoderConfig
from models.image.build import build_image_encoder
from tests.training.methods.pictures import SIZE_PX, image_batch, part, small_encoder
from training.methods.base import ImageBatch, MethodContext, Progress
from training.methods.image.patch_location import (
    NEIGHBOURS,
    PatchLocation,
    PatchLocationConfig,
    pair_with_centre,
    patch_location_loss,
)

CONTEXT = MethodContext(dataset_size=400, batch_size=64, image_size_px=SIZE_PX)
START = Progress(step=0, max_steps=100, epoch=0)
SMALL = PatchLocationConfig(hidden_width=16, dropout=0.0)


def method(config: PatchLocationConfig = SMALL) -> PatchLocation:
    return PatchLocation(small_encoder(seed=0), config, context=CONTEXT)


def test_labels_are_the_eight_cells_around_the_centre() -> None:
    assert sorted(NEIGHBOURS) == [cell for cell in range(9) if cell != 4]


def test_neighbours_come_first_and_an_image_s_pairs_stand_together() -> None:
    cells = torch.arange(18.0).view(2, 9, 1)
    pairs, labels = pair_with_centre(cells)
    assert pairs[:, 0].tolist() == [*NEIGHBOURS, *(9 + cell for cell in NEIGHBOURS)]
    assert pairs[:, 1].tolist() == [4.0] * 8 + [13.0] * 8
    assert labels.tolist() == [*range(8), *range(8)]


def test_swapped_patches_lie_on_the_opposite_side() -> None:
    # Seen from the neighbour, the centre lies where the opposite neighbour does; the pair in the other order is
    # another input, so the two classes can be told apart.
    for label, cell in enumerate(NEIGHBOURS):
        assert NEIGHBOURS[7 - label] == 8 - cell
    pairs, _ = pair_with_centre(torch.randn(1, 9, 4, generator=torch.Generator().manual_seed(0)))
    assert not torch.equal(pairs[0], pairs[0].roll(4))


def test_other_numbers_of_patches_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[n, 9, d\], got \[2, 4, 3\]"):
        pair_with_centre(torch.zeros(2, 4, 3))


def test_chance_is_the_log_of_8() -> None:
    assert patch_location_loss(torch.zeros(8, 8), torch.arange(8)).item() == pytest.approx(2.07944, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loss_of_half_precision_logits_is_fp32_and_near(dtype: torch.dtype) -> None:
    logits, labels = torch.randn(8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(8)
    found = patch_location_loss(logits.to(dtype), labels)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(patch_location_loss(logits, labels).item(), abs=2e-2)


def test_all_patches_share_one_batch_norm_pass_and_are_standardised() -> None:
    location = method()
    seen: list[Tensor] = []
    location.encoder.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    before = int(part(location, "encoder.backbone.1.num_batches_tracked"))
    output = location.loss(image_batch(location.views(), count=5, step=0), START)
    assert int(part(location, "encoder.backbone.1.num_batches_tracked")) == before + 1
    assert tuple(seen[0].shape) == (45, 3, 8, 8)
    assert seen[0].mean(dim=(2, 3)).abs().max() < 1e-5
    assert tuple(output.projections.shape) == (45, 32)


def test_the_loss_is_that_of_the_pairs_of_each_image() -> None:
    location = method().eval()
    shown: list[Tensor] = []
    location.classifier.register_forward_pre_hook(lambda _module, inputs: shown.append(inputs[0]))
    output = location.loss(image_batch(location.views(), count=5, step=0), START)
    pairs, labels = pair_with_centre(output.projections.view(5, 9, 32))
    assert torch.equal(shown[0], pairs)
    images = zip(location.classifier(pairs).chunk(5), labels.chunk(5), strict=True)
    torch.testing.assert_close(output.loss, torch.stack([patch_location_loss(*each) for each in images]).mean())


def test_small_images_are_shown_larger_and_mostly_grey() -> None:
    [view] = method().views()
    assert (view.size_px, view.grey_probability, view.crop_scale) == (30, 0.66, (0.76, 1.0))


def test_an_encoder_of_one_size_is_refused() -> None:
    encoder = build_image_encoder(ImageEncoderConfig(architecture="vit-tiny", image_size_px=16))
    with pytest.raises(ValueError, match=r"vit-tiny reads images of 16 px alone, .* 8 px"):
        PatchLocation(encoder, SMALL, context=CONTEXT)


@pytest.mark.parametrize(
    ("name", "value"), [("hidden_width", 0), ("dropout", 1.0), ("patch_share", 1.0), ("grey_probability", -0.1)]
)
def test_bad_settings_are_refused(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"{name} \({value}\)"):
        PatchLocationConfig(**settings)


def test_it_learns_where_textures_belong() -> None:
    location = method()
    optimiser = torch.optim.Adam(location.parameters(), lr=0.01)
    y, x = torch.meshgrid(torch.arange(30), torch.arange(30), indexing="ij")
    image = torch.sin(y * (0.5 + y // 10) + 1.7 * x * (x // 10)).expand(3, 30, 30)  # each cell another wave
    for step in range(25):
        torch.manual_seed(step)
        output = location.loss(ImageBatch((image + 0.1 * torch.randn(16, 3, 30, 30),), torch.arange(16)), START)
        optimiser.zero_grad()
        torch.autograd.backward(output.loss)
        optimiser.step()
    assert float(output.metrics["accuracy"]) > 0.5

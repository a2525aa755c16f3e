from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.methods.pictures import SIZE_PX, image_batch, small_encoder
from training.methods.base import ImageBatch, MethodContext, Progress
from training.methods.image.autoencoder import Autoencoder, AutoencoderConfig, reconstruction_loss, spoil
from training.views.presets import Augmentation, view_of

CONTEXT = MethodContext(dataset_size=400, batch_size=64, image_size_px=SIZE_PX)
START = Progress(step=0, max_steps=100, epoch=0)
PLAIN = AutoencoderConfig(bottleneck_width=16, decoder_channels=32)
DENOISING = replace(PLAIN, noise_std=0.5, drop_share=0.3)


def method(config: AutoencoderConfig = PLAIN) -> Autoencoder:
    return Autoencoder(small_encoder(seed=0), config, context=CONTEXT)


def pictures(count: int = 50) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_loss_is_the_mean_squared_error() -> None:
    images = pictures(2)
    assert reconstruction_loss(images + 0.5, images).item() == pytest.approx(0.25, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loss_of_half_precision_images_is_fp32_and_near(dtype: torch.dtype) -> None:
    images, rebuilt = pictures(4).chunk(2)
    found = reconstruction_loss(rebuilt.to(dtype), images.to(dtype))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(reconstruction_loss(rebuilt, images).item(), abs=2e-2)


def test_a_plain_one_is_shown_the_image_itself() -> None:
    images = pictures()
    assert spoil(images, noise_std=0.0, drop_share=0.0) is images


def test_pixels_are_dropped_in_all_channels_at_once() -> None:
    torch.manual_seed(0)
    images = pictures()
    found = spoil(images, noise_std=0.0, drop_share=0.3)
    dropped = found == 0
    assert torch.equal(dropped.any(dim=1), dropped.all(dim=1))
    assert torch.equal(found[~dropped], images[~dropped])
    assert dropped.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert not torch.equal(dropped[0], dropped[1])


def test_noise_has_the_deviation_told() -> None:
    torch.manual_seed(0)
    images = pictures()
    noise = spoil(images, noise_std=0.5, drop_share=0.0) - images
    assert noise.std().item() == pytest.approx(0.5, abs=0.02)
    assert abs(noise.mean().item()) < 0.02


def test_a_dropped_pixel_has_no_noise_either() -> None:
    torch.manual_seed(0)
    found = spoil(pictures(), noise_std=0.5, drop_share=0.3)
    assert (found == 0).float().mean().item() == pytest.approx(0.3, abs=0.03)


def test_the_target_is_the_clean_image(monkeypatch: pytest.MonkeyPatch) -> None:
    autoencoder = method(DENOISING)
    spoilt: list[Tensor] = []
    seen: list[Tensor] = []

    def watched(images: Tensor, *, noise_std: float, drop_share: float) -> Tensor:
        spoilt.append(spoil(images, noise_std=noise_std, drop_share=drop_share))
        return spoilt[-1]

    monkeypatch.setattr("training.methods.image.autoencoder.spoil", watched)
    autoencoder.encoder.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    images = image_batch(autoencoder.views(), count=8, step=0).views[0]
    clean = images.clone()

    output = autoencoder.loss(ImageBatch((images,), torch.arange(8)), START)

    assert torch.equal(images, clean)
    assert torch.equal(seen[0], spoilt[0])
    assert (spoilt[0] - images).abs().max() > 1
    rebuilt = autoencoder.decoder(output.projections)
    torch.testing.assert_close(output.loss, reconstruction_loss(rebuilt, clean))
    explained = 1 - output.loss / clean.square().mean()
    assert float(output.metrics["explained"]) == pytest.approx(explained.item(), abs=1e-5)


def test_everything_passes_through_the_bottleneck() -> None:
    autoencoder = method()
    output = autoencoder.loss(image_batch(autoencoder.views(), count=8, step=0), START)
    assert tuple(output.projections.shape) == (8, 16)
    assert autoencoder.decoder.start.in_features == 16


def test_a_bottleneck_as_wide_as_the_image_is_refused() -> None:
    method(replace(PLAIN, bottleneck_width=767))
    with pytest.raises(ValueError, match=r"bottleneck_width \(768\) must be < 768, .* 16 px"):
        method(replace(PLAIN, bottleneck_width=768))


def test_the_view_is_weak() -> None:
    assert method().views() == (view_of(Augmentation.WEAK, SIZE_PX),)


@pytest.mark.parametrize(
    ("name", "value"),
    [("bottleneck_width", 0), ("decoder_channels", 0), ("noise_std", -0.1), ("drop_share", 1.0), ("drop_share", -0.1)],
)
def test_bad_settings_are_refused(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"{name} \({value}\)"):
        AutoencoderConfig(**settings)


@pytest.mark.parametrize("config", [PLAIN, DENOISING])
def test_it_learns_to_rebuild_images_of_one_colour(config: AutoencoderConfig) -> None:
    autoencoder = method(config)
    optimiser = torch.optim.Adam(autoencoder.parameters(), lr=0.005)
    colours = torch.randn(16, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    images = colours.expand(-1, -1, SIZE_PX, SIZE_PX)
    for step in range(20):
        torch.manual_seed(step)
        output = autoencoder.loss(ImageBatch((images,), torch.arange(16)), START)
        optimiser.zero_grad()
        torch.autograd.backward(output.loss)
        optimiser.step()
    assert float(output.metrics["explained"]) > 0.8

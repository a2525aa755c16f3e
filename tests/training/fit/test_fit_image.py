from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from models.bundle.preprocessing import ImagePreprocessing
from models.config import ImageEncoderConfig, Normalization
from models.image.served import ServedImageEncoder
from training.batches.image_batches import ImageFeed
from training.config import FitConfig
from training.corpora.image_pack import ImagePack
from training.fit.fit import fit
from training.fit.fit_image import fit_image
from training.fit.interruption import Interrupted
from training.fit.metrics_log import read_metrics
from training.methods.base import MethodContext
from training.methods.image.simclr import SimCLR, SimCLRConfig
from training.run_config import ImageRunConfig
from training.run_folder import load_run


@pytest.fixture
def config(image_pack: ImagePack, fit_config: Callable[..., FitConfig], tmp_path: Path) -> ImageRunConfig:
    return ImageRunConfig(
        data=image_pack.path,
        out=tmp_path / "run",
        method="mean-shift",
        settings={"bank_size": 16},
        encoder=ImageEncoderConfig(image_size_px=16),
        batch_size=8,
        fit=fit_config(max_steps=8, evaluate_every_steps=4),
    )


def test_a_run_comes_back_as_the_encoder_that_is_served(config: ImageRunConfig, image_pack: ImagePack) -> None:
    result = fit_image(config)

    run = load_run(result.folder.path)

    assert isinstance(run.served, ServedImageEncoder)
    assert run.tokenizer is None
    assert run.preprocessing == ImagePreprocessing(size_px=16)
    assert run.encoder == config.encoder
    assert run.data_fingerprint == image_pack.fingerprint
    with torch.no_grad():
        vectors = run.served(torch.randn(3, 3, 16, 16))
    assert torch.allclose(vectors.norm(dim=1), torch.ones(3))
    saved = torch.load(result.folder.checkpoint, weights_only=True)["state_dict"]
    weights = run.served.encoder.state_dict()
    assert all(torch.equal(saved[f"method.encoder.{name}"], value) for name, value in weights.items())


def test_with_a_bank_a_stopped_run_goes_on_as_if_it_had_not_been(
    config: ImageRunConfig, stop_after: Callable[..., Any], tmp_path: Path
) -> None:
    straight = fit_image(replace(config, out=tmp_path / "straight")).folder
    with pytest.raises(Interrupted):
        fit_image(config, reporter=stop_after(3, lambda: os.kill(os.getpid(), signal.SIGTERM)))

    resumed = fit_image(config, resume=True).folder

    assert resumed.encoder.read_bytes() == straight.encoder.read_bytes()
    assert resumed.metrics.read_text() == straight.metrics.read_text()
    states = [torch.load(run.checkpoint, weights_only=True)["state_dict"] for run in (straight, resumed)]
    assert "method.bank.vectors" in states[0]
    assert [name for name in states[0] if not torch.equal(*(torch.as_tensor(state[name]) for state in states))] == []


def test_labels_are_looked_at_but_never_learnt_from(config: ImageRunConfig) -> None:
    result = fit_image(config)

    rows = [row for row in read_metrics(result.folder.metrics) if "validation_knn" in row]
    # The classes are two colours: even a hardly trained encoder tells them apart.
    assert [row["step"] for row in rows] == [4, 8]
    assert rows[-1]["validation_knn"] > 0.8


def test_training_goes_on_from_another_runs_weights(config: ImageRunConfig, tmp_path: Path) -> None:
    first = fit_image(config).folder

    frozen = replace(config, out=tmp_path / "second", init=first.encoder, freeze=-1)
    second = load_run(fit_image(frozen).folder.path)

    before = load_run(first.path).served.state_dict()
    assert all(torch.equal(before[name], value) for name, value in second.served.state_dict().items())


def test_pixels_are_normalised_as_told_and_served_so(config: ImageRunConfig, tmp_path: Path) -> None:
    plain = fit_image(config).folder
    told = fit_image(replace(config, out=tmp_path / "told", normalization=Normalization.SYMMETRIC)).folder
    shape = ImageEncoderConfig(architecture="efficientnet-lite0", image_size_px=8)
    first = fit_image(replace(config, out=tmp_path / "lite", encoder=shape)).folder
    lite = fit_image(replace(config, out=tmp_path / "again", encoder=shape, init=first.encoder)).folder

    means = [load_run(run.path).config["preprocessing"]["image_mean"][0] for run in (plain, told, first, lite)]
    assert means == [0.485, 127 / 255, 127 / 255, 127 / 255]
    assert read_metrics(plain.metrics)[-1]["loss"] != read_metrics(told.metrics)[-1]["loss"]


def test_raw_images_are_packed_into_the_run(config: ImageRunConfig, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    lines: list[str] = []

    class Listening:
        def note(self, line: str) -> None:
            lines.append(line)

        def start(self, label: str, total: int, done: int = 0) -> None: ...
        def advance(self, **values: float) -> None: ...
        def stop(self) -> None: ...

    run = load_run(fit_image(replace(config, data=folder), reporter=Listening()).folder.path)

    assert run.data_path == config.out / "pack"
    assert len(ImagePack.open(run.data_path)) == 40
    assert any("quarantine.json" in line for line in lines)


def test_a_bank_as_large_as_the_data_is_refused(config: ImageRunConfig) -> None:
    with pytest.raises(ValueError, match="bank"):
        fit_image(replace(config, settings={"bank_size": 60}))


def test_an_encoder_and_images_of_ones_own(fit_config: Callable[..., FitConfig], tmp_path: Path) -> None:
    class OwnEncoder(nn.Module):
        width = 6

        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Conv2d(3, 6, 3, stride=2)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            features: torch.Tensor = self.map(pixels)
            return features.mean(dim=(2, 3))

    class OwnImages:
        def read(self, indices: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
            return np.stack([np.full((12, 12, 3), index * 5, dtype=np.uint8) for index in indices])

    encoder = OwnEncoder()
    before = encoder.map.weight.detach().clone()
    context = MethodContext(dataset_size=30, batch_size=10, image_size_px=12)
    method = SimCLR(encoder, SimCLRConfig(temperature=0.5), context=context)  # type: ignore[arg-type]  # any module with a width
    feed = ImageFeed(
        source=OwnImages(),
        indices=np.arange(30),
        views=method.views(),
        preprocessing=ImagePreprocessing(size_px=12),
        images_per_step=10,
    )

    result = fit(method, feed, fit_config(max_steps=4), tmp_path / "own")

    assert result.steps == 4
    assert not torch.equal(encoder.map.weight, before)
    with pytest.raises(ValueError, match="with your own code"):
        load_run(tmp_path / "own")

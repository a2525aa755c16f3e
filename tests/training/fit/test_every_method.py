"""Every image method, by its recipe: trains, stops, goes on bit-equal, and leaves its encoder."""

from __future__ import annotations

import io
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

from models.config import ImageEncoderConfig
from tests.training.corpora.pictures import noise, png
from training.config import Accelerator, DeviceConfig, FitConfig, LoopConfig
from training.corpora.image_items import ImageItem
from training.corpora.image_pack import ImagePack, write_image_pack
from training.corpora.splits import Split, SplitFractions
from training.fit.fit_image import fit_image
from training.fit.interruption import Interrupted
from training.methods.table import METHODS
from training.run_config import ImageRunConfig, LabelConfig
from training.run_folder import load_run

IMAGE_METHODS = [entry.name for entry in METHODS.values() if entry.modality == "image"]


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> ImagePack:
    """Some 65 noisy training images of 16 px in three classes by their colour."""
    items = []
    for number in range(80):
        pixels = np.random.default_rng(number).integers(0, 120, (16, 16, 3), dtype=np.uint8)
        pixels[:, :, number % 3] += 120
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        items.append(ImageItem(f"image-{number}", stream.getvalue(), label="abc"[number % 3]))
    folder = tmp_path_factory.mktemp("packs") / "image"
    fractions = SplitFractions(validation=0.1, test=0.1)
    return write_image_pack(items, folder, size_px=16, source="test", fractions=fractions)[0]


def run_config(name: str, pack: ImagePack, out: Path) -> ImageRunConfig:
    entry = METHODS[name]
    recipe, needs = entry.recipe(), entry.load().needs
    return ImageRunConfig(
        data=pack.path,
        out=out,
        method=name,
        settings=recipe.settings,
        encoder=ImageEncoderConfig(image_size_px=16),
        batch_size=16,
        labels=LabelConfig(labels_per_class=12) if needs.labels else LabelConfig(),
        fit=FitConfig(
            optimiser=recipe.optimiser,
            loop=LoopConfig(max_steps=6, log_every_steps=1, checkpoint_every_steps=1000, collapse_threshold=0),
            device=DeviceConfig(accelerator=Accelerator.CPU, threads=1, workers=1),
        ),
    )


@pytest.mark.parametrize("name", IMAGE_METHODS)
def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    name: str, pack: ImagePack, stop_after: Callable[..., Any], tmp_path: Path
) -> None:
    config = run_config(name, pack, tmp_path / "run")
    straight = fit_image(replace(config, out=tmp_path / "straight")).folder
    with pytest.raises(Interrupted):
        fit_image(config, reporter=stop_after(2, lambda: os.kill(os.getpid(), signal.SIGTERM)))

    resumed = fit_image(config, resume=True).folder

    assert resumed.encoder.read_bytes() == straight.encoder.read_bytes()
    states = [torch.load(run.checkpoint, weights_only=True)["state_dict"] for run in (straight, resumed)]
    assert [key for key in states[0] if not torch.equal(*(torch.as_tensor(state[key]) for state in states))] == []
    served = load_run(resumed.path).served
    assert torch.isfinite(served(torch.randn(2, 3, 16, 16))).all()


def test_a_class_without_a_training_image_is_refused_where_a_support_is_drawn(tmp_path: Path) -> None:
    items = [ImageItem(f"{number}", png(noise(number, 16, 16)), label="ab"[number % 2]) for number in range(60)]
    fractions = SplitFractions(validation=0.1, test=0.1)
    pack = write_image_pack(items, tmp_path / "pack", size_px=16, source="test", fractions=fractions)[0]
    held_out = pack.ids[int(pack.indices(Split.TEST)[0])]
    items[int(held_out)] = replace(items[int(held_out)], label="c")
    rare = write_image_pack(items, tmp_path / "rare", size_px=16, source="test", fractions=fractions)[0]

    with pytest.raises(ValueError, match="every class needs a labelled training image to be predicted; none has: c"):
        fit_image(replace(run_config("paws", rare, tmp_path / "run"), labels=LabelConfig()))

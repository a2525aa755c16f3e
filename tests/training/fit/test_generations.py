"""Several fits in turn, each taught by the one before."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.config import ImageEncoderConfig
from tests.training.corpora.pictures import png
from training.config import Accelerator, DeviceConfig, FitConfig, LoopConfig
from training.corpora.image_items import ImageItem
from training.corpora.image_pack import ImagePack, write_image_pack
from training.corpora.splits import Split, SplitFractions
from training.fit.fit_image import fit_image
from training.fit.generations import plan_generations
from training.fit.interruption import Interrupted
from training.fit.teacher import predict_classes
from training.run_config import ImageRunConfig, LabelConfig
from training.run_folder import RunFolder, load_run


def write_pack(folder: Path, *, size_px: int = 16, classes: str = "ab") -> ImagePack:
    """96 bright or dark noisy images."""
    items = []
    for number in range(96):
        pixels = np.random.default_rng(number).integers(0, 120, (16, 16, 3), dtype=np.uint8)
        pixels += np.uint8(120 * (number % len(classes)) // (len(classes) - 1))
        items.append(ImageItem(f"{number}", png(pixels), label=classes[number % len(classes)]))
    fractions = SplitFractions(validation=0.1, test=0.1)
    return write_image_pack(items, folder, size_px=size_px, source="test", fractions=fractions)[0]


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> ImagePack:
    return write_pack(tmp_path_factory.mktemp("packs") / "image")


def config(pack: ImagePack, out: Path, **settings: Any) -> ImageRunConfig:
    return ImageRunConfig(
        data=pack.path,
        out=out,
        method="self-training",
        settings={"generations": 2, "threshold": 0.0, "dropout": 0.0, "images_per_class": 4, **settings},
        encoder=ImageEncoderConfig(image_size_px=16),
        batch_size=16,
        labels=LabelConfig(labels_per_class=6),
        fit=FitConfig(
            loop=LoopConfig(max_steps=7, log_every_steps=1, collapse_threshold=0),
            device=DeviceConfig(accelerator=Accelerator.CPU, threads=1, workers=1),
        ),
    )


def test_each_generation_learns_what_the_one_before_says(pack: ImagePack, tmp_path: Path) -> None:
    result = fit_image(config(pack, tmp_path / "run"))

    folders = [tmp_path / "run-generation-0", tmp_path / "run-generation-1", tmp_path / "run"]
    assert result.folder.path == folders[2]
    assert result.steps == 2  # a third of seven
    records = [RunFolder(folder).read_config()["run"] for folder in folders]
    assert [record["teacher"] for record in records] == [None, str(folders[0]), str(folders[1])]
    states = [torch.load(folder / "last.ckpt", weights_only=True)["state_dict"] for folder in folders]
    targets = [next(value for key, value in state.items() if key.endswith("targets")) for state in states]
    assert not targets[0].any()
    train = pack.indices(Split.TRAIN)
    shown = set(json.loads((folders[0] / "labelled.json").read_text())["images"])
    hidden = np.array([int(number) not in shown for number in train])
    assert len(shown) == 12
    for before, found in zip(folders, targets[1:], strict=False):
        np.testing.assert_array_equal(found[hidden], predict_classes(before, pack, train)[hidden])
        assert not found[~hidden].any()
    assert not np.array_equal(targets[1], targets[2])


def test_a_teacher_says_what_its_encoder_and_classifier_say_in_evaluation_mode(pack: ImagePack, tmp_path: Path) -> None:
    run = fit_image(replace(config(pack, tmp_path / "run"), method="supervised", settings={}, batch_size=8)).folder.path
    indices = pack.indices(Split.TEST)
    found = predict_classes(run, pack, indices)

    loaded, head = load_run(run), load_file(run / "classifier.safetensors")
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = ((torch.from_numpy(pack.read(indices)) / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = loaded.served.get_submodule("encoder")(pixels) @ head["weight"].T + head["bias"]
    np.testing.assert_allclose(found, logits.softmax(dim=1).numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found, predict_classes(run, pack, indices))


def test_a_run_stopped_in_its_second_generation_goes_on_there(
    pack: ImagePack, stop_after: Callable[..., Any], tmp_path: Path
) -> None:
    straight = fit_image(config(pack, tmp_path / "straight")).folder
    with pytest.raises(Interrupted):
        fit_image(config(pack, tmp_path / "run"), reporter=stop_after(3, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    first = tmp_path / "run-generation-0/encoder.safetensors"
    written = first.stat().st_mtime_ns
    assert not (tmp_path / "run-generation-1/encoder.safetensors").exists()

    resumed = fit_image(config(pack, tmp_path / "run"), resume=True).folder

    assert first.stat().st_mtime_ns == written
    assert resumed.encoder.read_bytes() == straight.encoder.read_bytes()


def test_a_stop_in_the_last_step_of_a_generation_begins_no_other(
    pack: ImagePack, stop_after: Callable[..., Any], tmp_path: Path
) -> None:
    asked = config(pack, tmp_path / "run")
    with pytest.raises(Interrupted, match="stopped after generation 0 of 2; go on with --resume"):
        fit_image(asked, reporter=stop_after(2, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert (tmp_path / "run-generation-0/encoder.safetensors").exists()
    assert not (tmp_path / "run-generation-1/last.ckpt").exists()
    assert fit_image(asked, resume=True).folder.path == tmp_path / "run"


def test_nothing_is_overwritten_or_resumed_unasked(pack: ImagePack, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no run"):
        fit_image(config(pack, tmp_path / "run"), resume=True)
    fit_image(config(pack, tmp_path / "run", generations=1))
    (tmp_path / "run/mine.txt").write_text("kept")
    with pytest.raises(ValueError, match="run-generation-0 holds a finished run"):
        fit_image(config(pack, tmp_path / "run", generations=1))
    with pytest.raises(ValueError, match="is finished; --overwrite"):
        fit_image(config(pack, tmp_path / "run", generations=1), resume=True)
    fit_image(config(pack, tmp_path / "run", generations=1), overwrite=True)
    assert (tmp_path / "run/mine.txt").read_text() == "kept"


def test_a_folder_of_images_is_packed_once(tmp_path: Path) -> None:
    for number in range(60):
        folder = tmp_path / "pictures" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        (folder / f"{number}.png").write_bytes(png(pixels))
    asked = replace(config(write_pack(tmp_path / "other"), tmp_path / "run"), data=tmp_path / "pictures")
    fit_image(asked)
    assert [folder.name for folder in sorted(tmp_path.glob("run*")) if (folder / "pack").is_dir()] == [
        "run-generation-0"
    ]


def test_epochs_are_shared_by_the_generations(pack: ImagePack, tmp_path: Path) -> None:
    asked = config(pack, tmp_path / "run")
    asked = replace(asked, fit=replace(asked.fit, loop=LoopConfig(epochs=30)))
    assert [run.fit.loop.epochs for run in plan_generations(asked, packed=True)] == [10, 10, 10]
    [alone] = plan_generations(replace(asked, settings={"generations": 0}), packed=True)
    assert (alone.out, alone.fit.loop.epochs, alone.teacher) == (tmp_path / "run", 30, None)


def test_a_teacher_that_cannot_teach_is_refused(pack: ImagePack, tmp_path: Path) -> None:
    asked = config(pack, tmp_path / "student")
    supervised = replace(asked, method="supervised", settings={}, batch_size=8)
    taught = fit_image(replace(supervised, out=tmp_path / "teacher")).folder.path
    untaught = fit_image(replace(asked, method="simclr", settings={}, labels=LabelConfig(), out=tmp_path / "simclr"))
    with pytest.raises(ValueError, match="simclr keeps no classifier; train one with --method supervised"):
        fit_image(replace(asked, teacher=untaught.folder.path))
    with pytest.raises(ValueError, match="--method supervised learns from no teacher"):
        fit_image(replace(supervised, teacher=taught))
    others = write_pack(tmp_path / "others", classes="abc")
    with pytest.raises(ValueError, match=r"tells \['a', 'b'\] apart; .*others has \['a', 'b', 'c'\]"):
        fit_image(replace(asked, data=others.path, teacher=taught))
    larger = write_pack(tmp_path / "larger", size_px=24)
    encoder = ImageEncoderConfig(image_size_px=24)
    with pytest.raises(ValueError, match=r"reads images of 16 px; those of .*larger have 24"):
        fit_image(replace(asked, data=larger.path, encoder=encoder, teacher=taught))
    several = replace(asked, fit=replace(asked.fit, device=DeviceConfig(devices=2)))
    with pytest.raises(ValueError, match=r"--devices \(2\): --method self-training trains its generations on one"):
        fit_image(several)

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.cli.main import main
from diptych.cli.train_flags import OptimiserFlags, TextEncoderFlags
from models.config import Pooling, TextArchitecture, TextEncoderConfig
from training.config import OptimiserConfig, OptimiserName
from training.fit.method_settings import parse_settings
from training.methods.table import METHODS

QUICK = ["--max-steps", "2", "--threads", "1", "--accelerator", "cpu"]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(20):
        lines = [f"Sentence {word} of text {number}." for word in ("one", "two", "three", "four", "five", "six")]
        (folder / f"{number}.txt").write_text(" ".join(lines))
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(24):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def test_texts_of_ones_own_become_a_run(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "runs/texts"
    flags = ["--batch-size", "20", "--width", "8", "--embedding-width", "8", "--vocab-size", "300"]

    code = main(["train", "text", str(texts), str(run), *flags, *QUICK])

    out, err = capsys.readouterr()
    assert code == 0
    assert out == f"{run}\n"
    assert "training: 2 steps on cpu, about" in err
    assert f"next: diptych export {run} bundles/texts" in err
    config = json.loads((run / "config.json").read_text())
    assert config["encoder"]["width"] == 8
    assert config["encoder"]["towers"] == 1
    assert config["method"]["similarity"] == "cosine"
    assert config["environment"]["threads"] == 1


def test_pictures_of_ones_own_become_a_run(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    flags = ["--method", "mean-shift", "--set", "neighbour-count=2", "weak-target=false", "--batch-size", "4"]

    code = main(["train", "image", str(pictures), str(run), *flags, "--image-size-px", "16", *QUICK])

    assert (code, capsys.readouterr().out) == (0, f"{run}\n")
    config = json.loads((run / "config.json").read_text())
    assert (config["method"]["neighbour_count"], config["method"]["weak_target"]) == (2, False)
    assert config["run"]["fit"]["optimiser"]["learning_rate"] == 0.05
    assert config["encoder"]["image_size_px"] == 16


def test_a_finished_run_is_not_overwritten(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "train",
        "image",
        str(pictures),
        str(tmp_path / "run"),
        "--batch-size",
        "4",
        "--image-size-px",
        "8",
        *QUICK,
    ]
    assert main(words) == 0
    before = (tmp_path / "run/encoder.safetensors").read_bytes()
    capsys.readouterr()

    assert main([*words, "--seed", "5"]) == 1
    assert capsys.readouterr().err.strip().endswith("choose another folder, or --overwrite it")
    assert (tmp_path / "run/encoder.safetensors").read_bytes() == before
    assert main([*words, "--seed", "5", "--overwrite"]) == 0
    assert (tmp_path / "run/encoder.safetensors").read_bytes() != before


def test_the_papers_recipe_is_taken_and_a_flag_replaces_one_part(texts: Path, tmp_path: Path) -> None:
    small = ["--batch-size", "20", "--width", "8", "--embedding-width", "8", "--vocab-size", "300"]

    assert main(["train", "text", str(texts), str(tmp_path / "run"), "--recipe", "paper", *small, *QUICK]) == 0

    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["encoder"]["towers"], config["encoder"]["width"], config["encoder"]["pooling"]) == (2, 8, "last")
    assert config["method"]["similarity"] == "inner-product"
    optimiser = config["run"]["fit"]["optimiser"]
    assert (optimiser["learning_rate"], optimiser["gradient_clip"], config["run"]["batch_size"]) == (5e-4, 5.0, 20)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (
            ["--set", "temprature=1"],
            "error: --set temprature: simclr has no such setting; it has augmentation",
        ),
        (["--set", "temperature"], "error: --set temperature: write NAME=VALUE"),
        (["--method", "quick-thoughts"], "error: --method quick-thoughts learns from text; use: diptych train text"),
        (["--method", "magic"], "error: no method 'magic'; there are: autoencoder, barlow-twins, byol"),
        (["--batch-size", "999"], "error: --batch-size (999) must be <= the training images"),
        (["--learning-rate", "-1"], "error: --learning-rate (-1.0) must be > 0"),
        (["--resume"], "holds no run"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    flags: list[str], sentence: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["train", "image", str(pictures), str(tmp_path / "run"), "--image-size-px", "8", *QUICK, *flags])

    out, err = capsys.readouterr()
    assert (code, out) == (1, "")
    assert sentence in err.splitlines()[-1]


def test_a_source_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "text", str(tmp_path / "nowhere"), str(tmp_path / "run"), *QUICK]) == 1
    assert str(tmp_path / "nowhere") in capsys.readouterr().err


def test_help_names_every_method_and_loads_no_torch() -> None:
    code = (
        "import sys; from diptych.cli.main import main\n"
        "try: main(['train', 'image', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'numpy', 'pytorch_lightning', 'transformers') if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"
    text = " ".join(done.stdout.replace("│", " ").split())
    assert all(entry.name in text for entry in METHODS.values() if entry.modality == "image")
    for flag in ("--learning-rate", "--resume", "--freeze", "--backbone-lr-scale", "--precision {fp32,bf16,fp16}"):
        assert flag in text


def test_only_given_flags_change_the_methods_optimiser() -> None:
    base = OptimiserConfig(optimiser=OptimiserName.SGD, learning_rate=0.3, weight_decay=0.1)

    assert OptimiserFlags().over(base) == base
    assert OptimiserFlags(weight_decay=0.0).over(base) == OptimiserConfig(
        optimiser=OptimiserName.SGD, learning_rate=0.3, weight_decay=0.0
    )


def test_encoder_flags_go_over_the_recipes_shape_and_follow_the_architecture() -> None:
    base = TextEncoderConfig(towers=2)
    assert TextEncoderFlags().over(base, pretrained=False) == base
    assert TextEncoderFlags().over(base, pretrained=True) is None
    wide = TextEncoderFlags(width=128).over(base, pretrained=False)
    transformer = TextEncoderFlags(architecture="transformer", towers=1).over(base, pretrained=False)

    assert wide is not None
    assert (wide.architecture, wide.width, wide.towers) == (TextArchitecture.GRU, 128, 2)
    assert transformer is not None
    assert (transformer.architecture, transformer.pooling, transformer.layers, transformer.towers) == (
        TextArchitecture.TRANSFORMER,
        Pooling.MEAN,
        4,
        1,
    )


def test_a_transformers_recipe_keeps_its_shape_or_becomes_a_gru() -> None:
    kind = TextArchitecture.TRANSFORMER
    base = TextEncoderConfig(architecture=kind, width=96, layers=12, heads=12, pooling=Pooling.CLS, dropout=0.2)
    gru = TextEncoderFlags(architecture="gru").over(base, pretrained=False)

    assert TextEncoderFlags(architecture="transformer").over(base, pretrained=False) == base
    assert gru is not None
    assert (gru.architecture, gru.layers, gru.pooling, gru.dropout) == (TextArchitecture.GRU, 1, Pooling.MEAN, 0.2)


@pytest.mark.parametrize("method", ["simcse", "tsdae"])
def test_single_sentences_become_a_run(method: str, texts: Path, tmp_path: Path) -> None:
    small = ["--batch-size", "20", "--width", "8", "--embedding-width", "8", "--vocab-size", "300"]

    assert main(["train", "text", str(texts), str(tmp_path / "run"), "--method", method, *small, *QUICK]) == 0

    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["run"]["method"] == method


def test_settings_are_json_or_strings() -> None:
    found = parse_settings(["bank-size=64", "ema-decay=0.9", "weak-target=false", "augmentation=simclr", "x=a=b"])

    assert found == {"bank_size": 64, "ema_decay": 0.9, "weak_target": False, "augmentation": "simclr", "x": "a=b"}

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from models.config import ImageEncoderConfig, Pooling, TextArchitecture, TextEncoderConfig
from training.config import (
    Accelerator,
    DeviceConfig,
    FitConfig,
    LoopConfig,
    OptimiserConfig,
    OptimiserName,
    Precision,
    Schedule,
)
from training.config_json import decode, differences, encode
from training.run_config import ImageRunConfig, LabelConfig, TextRunConfig, TokenizerConfig, TokenizerKind

TEXT = TextRunConfig(
    data=Path("packs/a"),
    out=Path("runs/a"),
    settings={"loss": "logistic", "temperature": 0.5},
    encoder=TextEncoderConfig(architecture=TextArchitecture.TRANSFORMER, pooling=Pooling.CLS, width=64, heads=4),
    tokenizer=TokenizerConfig(tokenizer_kind=TokenizerKind.BPE, vocab_size=500),
    fit=FitConfig(
        optimiser=OptimiserConfig(optimiser=OptimiserName.LARS, schedule=Schedule.COSINE, warmup_steps=3),
        loop=LoopConfig(epochs=2, seed=4),
        device=DeviceConfig(accelerator=Accelerator.CPU, precision=Precision.BF16, threads=3),
    ),
    shuffle_documents=False,
)
IMAGE = ImageRunConfig(
    data=Path("p"),
    out=Path("r"),
    init=Path("w.safetensors"),
    freeze=2,
    encoder=ImageEncoderConfig(image_size_px=48),
    labels=LabelConfig(labels_per_class=4, label_seed=2),
)
FEW_LABELS = ImageRunConfig(data=Path("p"), out=Path("r"), labels=LabelConfig(label_fraction=0.1))


@pytest.mark.parametrize("config", [TEXT, IMAGE, FEW_LABELS, TextRunConfig(data=Path("d"), out=Path("o"))])
def test_a_configuration_survives_json(config: TextRunConfig | ImageRunConfig) -> None:
    assert decode(type(config), json.loads(json.dumps(encode(config)))) == config


def test_unknown_fields_and_wrong_types_are_refused_by_name() -> None:
    encoded = encode(IMAGE)

    with pytest.raises(ValueError, match="ImageRunConfig has no field colour"):
        decode(ImageRunConfig, {**encoded, "colour": 1})
    with pytest.raises(ValueError, match=r"batch_size \('many'\) must be of type int"):
        decode(ImageRunConfig, {**encoded, "batch_size": "many"})
    with pytest.raises(ValueError, match=r"batch_size \(True\) must be of type int"):
        decode(ImageRunConfig, {**encoded, "batch_size": True})


def test_differences_name_nested_fields_with_both_values() -> None:
    other = {**encode(TEXT), "batch_size": 3}
    other["fit"] = {**other["fit"], "loop": {**other["fit"]["loop"], "seed": 9}}

    assert differences(encode(TEXT), other) == ["batch_size (400, not 3)", "fit.loop.seed (4, not 9)"]
    assert differences(encode(TEXT), encode(TEXT)) == []
    assert differences({"a": 1}, {"b": 2}) == ["a (1, not None)", "b (None, not 2)"]


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (OptimiserConfig, {"learning_rate": 0}, r"--learning-rate \(0\) must be > 0"),
        (OptimiserConfig, {"learning_rate": float("nan")}, r"--learning-rate \(nan\)"),
        (OptimiserConfig, {"momentum": 1}, r"--momentum \(1\) must be in \[0, 1\)"),
        (OptimiserConfig, {"weight_decay": -1}, r"--weight-decay \(-1\) must be >= 0"),
        (LoopConfig, {"epochs": 1, "max_steps": 2}, r"--epochs \(1\) and --max-steps \(2\) exclude each other"),
        (LoopConfig, {"max_steps": 0}, r"--max-steps \(0\) must be >= 1"),
        (LoopConfig, {"log_every_steps": 0}, r"--log-every-steps \(0\)"),
        (LoopConfig, {"collapse_threshold": 1}, r"--collapse-threshold \(1\) must be in \[0, 1\)"),
        (DeviceConfig, {"devices": 0}, r"--devices \(0\) must be >= 1"),
        (DeviceConfig, {"precision": Precision.FP16, "accelerator": Accelerator.CPU}, "--precision fp16 needs a GPU"),
        (LabelConfig, {"labels_per_class": 0}, r"--labels-per-class \(0\) must be >= 1"),
        (LabelConfig, {"label_fraction": 0.0}, r"--label-fraction \(0\.0\) must be in \(0, 1\]"),
        (LabelConfig, {"label_fraction": 1.5}, r"--label-fraction \(1\.5\)"),
        (LabelConfig, {"label_fraction": float("nan")}, r"--label-fraction \(nan\)"),
        (LabelConfig, {"labels_per_class": 4, "label_fraction": 0.1}, "exclude each other; give one"),
        (TokenizerConfig, {"vocab_size": 20}, r"--vocab-size \(20\) must be >= 300"),
        (ImageRunConfig, {"data": Path(), "out": Path(), "freeze": 2}, r"--freeze \(2\) .* needs --init"),
        (ImageRunConfig, {"data": Path(), "out": Path(), "batch_size": 1}, r"--batch-size \(1\) must be >= 2"),
    ],
)
def test_bad_values_are_refused_with_the_flag(kind: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**fields)


def test_all_labels_are_shown_unless_told_otherwise() -> None:
    assert (LabelConfig().labels_per_class, LabelConfig().label_fraction) == (None, None)
    assert ImageRunConfig(data=Path(), out=Path()).labels == LabelConfig()
    assert LabelConfig(label_fraction=1.0).label_fraction == 1.0


def test_steps_come_from_epochs_or_steps_or_the_default() -> None:
    assert LoopConfig(epochs=3).steps(steps_per_epoch=7) == 21
    assert LoopConfig(max_steps=5).steps(steps_per_epoch=7) == 5
    assert LoopConfig().steps(steps_per_epoch=7) == 2000


def test_configurations_load_no_torch() -> None:
    code = (
        "import sys, training.run_config, training.config_json, training.methods.table, training.methods.recipes;"
        "print([name for name in ('torch', 'numpy', 'pytorch_lightning') if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@dataclass(frozen=True)
class Either:
    run: ImageRunConfig | TextRunConfig


def test_a_field_of_two_kinds_is_read_as_the_one_that_was_written() -> None:
    image = ImageRunConfig(data=Path("packs/a"), out=Path("runs/a"))
    assert decode(Either, encode(Either(image))) == Either(image)
    assert decode(Either, encode(Either(TEXT))) == Either(TEXT)
    with pytest.raises(ValueError, match="ImageRunConfig has no field nonsense"):
        decode(Either, {"run": {"nonsense": 1}})

"""Every text method, by its recipe: trains, stops, goes on bit-equal, and leaves its encoder."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.config import Pooling, TextArchitecture, TextEncoderConfig
from training.config import Accelerator, DeviceConfig, FitConfig, LoopConfig
from training.corpora.text_pack import TextPack
from training.fit.fit_text import fit_text
from training.fit.interruption import Interrupted
from training.fit.metrics_log import read_metrics
from training.methods.table import METHODS
from training.run_config import TextRunConfig, TokenizerConfig
from training.run_folder import load_run

TEXT_METHODS = [entry.name for entry in METHODS.values() if entry.modality == "text"]
SHUFFLED = [name for name in TEXT_METHODS if METHODS[name].load().needs.shuffled]


def run_config(name: str, pack: TextPack, out: Path, *, init: Path | None = None) -> TextRunConfig:
    recipe = METHODS[name].recipe(pretrained=init is not None)
    small = replace(recipe.text_encoder, width=8, embedding_width=8, max_tokens=16)
    return TextRunConfig(
        data=pack.path,
        out=out,
        method=name,
        settings=recipe.settings,
        encoder=small if init is None else None,
        tokenizer=TokenizerConfig(vocab_size=300) if init is None else TokenizerConfig(),
        init=init,
        batch_size=40,
        fit=FitConfig(
            optimiser=recipe.optimiser,
            loop=LoopConfig(max_steps=5, log_every_steps=1, checkpoint_every_steps=1000, collapse_threshold=0),
            device=DeviceConfig(accelerator=Accelerator.CPU, threads=1, workers=1),
        ),
    )


@pytest.mark.parametrize("name", TEXT_METHODS)
def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    name: str, text_pack: TextPack, stop_after: Callable[..., Any], tmp_path: Path
) -> None:
    config = run_config(name, text_pack, tmp_path / "run")
    straight = fit_text(replace(config, out=tmp_path / "straight")).folder
    with pytest.raises(Interrupted):
        fit_text(config, reporter=stop_after(2, lambda: os.kill(os.getpid(), signal.SIGTERM)))

    resumed = fit_text(config, resume=True).folder

    assert resumed.encoder.read_bytes() == straight.encoder.read_bytes()
    assert resumed.metrics.read_text() == straight.metrics.read_text()
    states = [torch.load(run.checkpoint, weights_only=True)["state_dict"] for run in (straight, resumed)]
    assert [key for key in states[0] if not torch.equal(*(torch.as_tensor(state[key]) for state in states))] == []
    rows = [row["validation_mrr_served"] for row in read_metrics(resumed.metrics) if "validation_mrr_served" in row]
    assert rows
    assert all(0 < row < 1 for row in rows)
    ids = torch.randint(5, 60, (3, 7))
    vectors = load_run(resumed.path).served(ids, torch.ones_like(ids))[1]
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("name", TEXT_METHODS)
def test_a_transformer_learns_from_scratch_and_from_a_directory(
    name: str, text_pack: TextPack, bert_directory: Path, tmp_path: Path
) -> None:
    scratch = run_config(name, text_pack, tmp_path / "scratch")
    shape = TextEncoderConfig(
        architecture=TextArchitecture.TRANSFORMER, width=8, heads=2, max_tokens=16, pooling=Pooling.MEAN, dropout=0.1
    )
    started = run_config(name, text_pack, tmp_path / "started", init=bert_directory)

    for config in (replace(scratch, encoder=shape), started):
        run = load_run(fit_text(config).folder.path)
        ids = torch.randint(5, 60, (3, 7))
        assert torch.isfinite(run.served(ids, torch.ones_like(ids))[1]).all()


@pytest.mark.parametrize("name", SHUFFLED)
def test_one_tower_in_random_order_is_all_that_there_is(name: str, text_pack: TextPack, tmp_path: Path) -> None:
    config = run_config(name, text_pack, tmp_path / "run")
    assert config.encoder is not None
    with pytest.raises(ValueError, match=r"--towers \(2\) must be 1: \w+ learns one encoder"):
        fit_text(replace(config, encoder=replace(config.encoder, towers=2)))
    with pytest.raises(ValueError, match=f"--fixed-order: --method {name} takes sentences in random order"):
        fit_text(replace(config, shuffle_documents=False), overwrite=True)

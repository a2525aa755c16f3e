from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertModel

from models.bundle.tokens import Tokenizer
from models.config import Pooling, TextArchitecture, TextEncoderConfig
from models.text.served import ServedTextEncoder
from training.config import FitConfig, OptimiserConfig
from training.corpora.splits import Split
from training.corpora.text_pack import TextPack
from training.fit.fit_text import fit_text
from training.fit.interruption import Interrupted
from training.fit.metrics_log import read_metrics
from training.run_config import TextRunConfig, TokenizerConfig
from training.run_folder import load_run
from training.tokenizer import train_tokenizer

TINY = TextEncoderConfig(width=8, embedding_width=8, max_tokens=16, dropout=0.3, towers=2)


@pytest.fixture
def config(text_pack: TextPack, fit_config: Callable[..., FitConfig], tmp_path: Path) -> TextRunConfig:
    return TextRunConfig(
        data=text_pack.path,
        out=tmp_path / "run",
        encoder=TINY,
        tokenizer=TokenizerConfig(vocab_size=300),
        batch_size=40,
        fit=replace(
            fit_config(max_steps=8, evaluate_every_steps=4),
            optimiser=OptimiserConfig(learning_rate=0.01, gradient_clip=5.0),
        ),
    )


def embed(served: Any, tokenizer: Tokenizer, texts: list[str]) -> torch.Tensor:
    ids, mask = tokenizer.pad([tokenizer.encode(text, max_tokens=16).ids for text in texts])
    with torch.no_grad():
        result: torch.Tensor = served(torch.from_numpy(ids), torch.from_numpy(mask))[1]
    return result


def test_a_run_comes_back_as_the_encoder_that_is_served(config: TextRunConfig, text_pack: TextPack) -> None:
    result = fit_text(config)

    run = load_run(result.folder.path)

    assert isinstance(run.served, ServedTextEncoder)
    assert run.tokenizer is not None
    assert run.preprocessing is None
    assert not run.served.training
    assert run.encoder == replace(TINY, vocab_size=run.tokenizer.vocab_size)
    vectors = embed(run.served, run.tokenizer, ["river stone.", "paper engine harbour."])
    assert vectors.shape == (2, 16)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(2))
    assert (run.data_path, run.data_fingerprint) == (text_pack.path, text_pack.fingerprint)
    assert run.provenance["method"] == "quick-thoughts"
    assert run.provenance["config"]["run"]["fit"]["loop"]["max_steps"] == 8
    # The checkpoint's towers are the encoder's.
    saved = torch.load(result.folder.checkpoint, weights_only=True)["state_dict"]
    embedding = run.served.state_dict()["towers.1.embedding.weight"]
    assert torch.equal(saved["method.encoder.1.tower.embedding.weight"], embedding)


def test_held_out_next_sentences_are_measured_both_ways(config: TextRunConfig) -> None:
    result = fit_text(config)

    rows = [row for row in read_metrics(result.folder.metrics) if "validation_mrr" in row]
    assert [row["step"] for row in rows] == [4, 8]
    assert all(0 < row["validation_mrr"] < 1 and 0 < row["validation_mrr_served"] < 1 for row in rows)


def test_with_dropout_a_stopped_run_goes_on_as_if_it_had_not_been(
    config: TextRunConfig, stop_after: Callable[..., Any], tmp_path: Path
) -> None:
    straight = fit_text(replace(config, out=tmp_path / "straight")).folder
    stop = stop_after(5, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted):
        fit_text(config, reporter=stop)

    resumed = fit_text(config, resume=True).folder

    assert resumed.encoder.read_bytes() == straight.encoder.read_bytes()
    assert resumed.metrics.read_text() == straight.metrics.read_text()
    states = [torch.load(run.checkpoint, weights_only=True) for run in (straight, resumed)]
    for name, value in states[0]["state_dict"].items():
        assert torch.equal(states[1]["state_dict"][name], value), name
    moments = [state["optimizer_states"][0]["state"] for state in states]
    assert all(torch.equal(moments[0][key]["exp_avg_sq"], moments[1][key]["exp_avg_sq"]) for key in moments[0])


def test_the_tokenizer_is_learnt_from_training_documents_only(config: TextRunConfig, text_pack: TextPack) -> None:
    run = fit_text(config).folder

    train = (sentence for document in text_pack.documents(Split.TRAIN) for sentence in document.sentences)
    expected = train_tokenizer(train, config.tokenizer)
    assert Tokenizer.load(run.tokenizer).to_json() == expected.to_json()


def test_a_start_from_a_directory_ties_the_towers_and_keeps_its_tokenizer(
    config: TextRunConfig, bert_directory: Path
) -> None:
    started = replace(config, encoder=None, tokenizer=TokenizerConfig(), init=bert_directory)

    run = load_run(fit_text(started).folder.path)

    assert isinstance(run.encoder, TextEncoderConfig)
    assert run.encoder.architecture is TextArchitecture.PRETRAINED
    assert (run.encoder.towers, run.encoder.pooling, run.encoder.max_tokens) == (1, Pooling.MEAN, 32)
    assert run.tokenizer is not None
    assert run.tokenizer.to_json() == Tokenizer.load(bert_directory).to_json()


def test_frozen_layers_stay_and_others_move(config: TextRunConfig, bert_directory: Path) -> None:
    started = replace(config, encoder=None, tokenizer=TokenizerConfig(), init=bert_directory, freeze=2)

    served = load_run(fit_text(started).folder.path).served

    original = BertModel.from_pretrained(bert_directory, add_pooling_layer=False).state_dict()
    trained = {name.split("backbone.", 1)[1]: value for name, value in served.state_dict().items()}
    moved = {name for name, value in original.items() if not torch.equal(trained[name], value)}
    assert moved
    assert all(name.startswith("encoder.layer.1.") for name in moved)


def test_raw_texts_are_packed_into_the_run(config: TextRunConfig, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number}.txt").write_text("The river froze. A light went out. Nobody came back. Winter held on.")

    run = load_run(fit_text(replace(config, data=folder)).folder.path)

    assert run.data_path == config.out / "pack"
    assert TextPack.open(run.data_path).document_count == 30


def test_too_large_a_block_is_refused_with_the_flag(config: TextRunConfig) -> None:
    with pytest.raises(ValueError, match=r"--batch-size \(4000\) must be <= the training sentences"):
        fit_text(replace(config, batch_size=4000))


def test_a_resumed_run_with_another_flag_names_it(config: TextRunConfig, stop_after: Callable[..., Any]) -> None:
    with pytest.raises(Interrupted):
        fit_text(config, reporter=stop_after(2, lambda: os.kill(os.getpid(), signal.SIGINT)))

    with pytest.raises(ValueError, match=r"another batch_size \(40, not 50\)"):
        fit_text(replace(config, batch_size=50), resume=True)


def test_encoder_flags_beside_a_directory_are_refused(config: TextRunConfig, bert_directory: Path) -> None:
    with pytest.raises(ValueError, match="--init says what the encoder is"):
        replace(config, init=bert_directory)
    with pytest.raises(ValueError, match="--init brings its tokenizer"):
        replace(config, init=bert_directory, encoder=None)

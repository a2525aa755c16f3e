"""Makes tiny Hugging Face and sentence-transformers directories on disk."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
    PreTrainedModel,
)

__all__ = ["make_model", "write_directory"]


def make_model(kind: str = "bert") -> PreTrainedModel:
    """Builds a tiny model in evaluation mode, by its Hugging Face name."""
    torch.manual_seed(3)
    model = _make(kind)
    model.train(False)
    return model


def _make(kind: str) -> PreTrainedModel:
    match kind:
        case "bert":
            # Larger than the default spread, so that vectors differ by more than rounding.
            return BertModel(
                BertConfig(
                    vocab_size=40,
                    hidden_size=16,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    intermediate_size=32,
                    max_position_embeddings=24,
                    initializer_range=0.3,
                )
            )
        case "distilbert":
            return DistilBertModel(
                DistilBertConfig(vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=32, initializer_range=0.3)
            )
        case _:
            return GPT2Model(
                GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=24, initializer_range=0.3)
            )


def write_directory(
    folder: Path,
    model: PreTrainedModel,
    *,
    pooling: Mapping[str, Any] | None = None,
    normalize: bool = True,
    max_tokens: int | None = None,
) -> Path:
    """Saves a model; with `pooling` (the content of `1_Pooling/config.json`) as sentence-transformers would."""
    model.save_pretrained(folder)
    if max_tokens is not None:
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": max_tokens}), encoding="utf-8")
    if pooling is None:
        return folder
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] if normalize else [])]
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    return folder

"""Writes a sentence encoder in the form of a sentence-transformers directory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import tokenizers
from safetensors import safe_open
from transformers.utils import logging as transformers_logging

from models.bundle.manifest import Prompts
from models.bundle.tokens import TOKENIZER_FILE, Tokenizer
from models.config import Pooling, TextEncoderConfig
from models.text.served import ServedTextEncoder
from models.text.transformer import TransformerTextEncoder

__all__ = ["copy_text_directory", "write_text_files"]

_SPECIAL_TOKENS: Final = {
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
}
_COPIED: Final = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.safetensors",
    "*.safetensors.index.json",
)
_POOLING_MODES: Final = {Pooling.MEAN: "mean_tokens", Pooling.CLS: "cls_token", Pooling.LAST: "lasttoken"}


def write_text_files(
    folder: Path, served: ServedTextEncoder, config: TextEncoderConfig, *, tokenizer: Tokenizer, prompts: Prompts
) -> None:
    """Writes a trained encoder; where Hugging Face knows the architecture, sentence-transformers opens the result.

    Args:
        folder: Where to, empty.
        served: The encoder.
        config: Its shape.
        tokenizer: Its tokenizer.
        prompts: What is written before queries and documents.
    """
    (folder / TOKENIZER_FILE).write_text(tokenizer.to_json(), encoding="utf-8")
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(tokenizer, config.max_tokens))
    (tower, *others) = served.towers
    if isinstance(tower, TransformerTextEncoder) and not others:
        _save_backbone(tower, folder)
        _write_modules(folder, config, prompts)
    else:
        # No `modules.json`: it would promise sentence-transformers an architecture that it does not know.
        _write_json(folder / "config.json", {"model_type": f"diptych-{config.architecture}", **config.to_json()})
        _write_prompts(folder, config, prompts)


def copy_text_directory(
    source: Path, folder: Path, served: ServedTextEncoder, config: TextEncoderConfig, *, prompts: Prompts
) -> None:
    """Copies a model directory as it is, and adds what sentence-transformers wants where it lacks.

    Args:
        source: The folder with `config.json` and the weights.
        folder: Where to, empty.
        served: The encoder loaded from it, for weights that are not stored in fp32.
        config: Its shape, as read from the source.
        prompts: What is written before queries and documents.
    """
    for pattern in _COPIED:
        for file in sorted(source.glob(pattern)):
            shutil.copyfile(file, folder / file.name)
    if not _is_fp32(folder):
        # Weights of half precision would be opened as such elsewhere, and give other vectors than the graph.
        for file in (*folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")):
            file.unlink()
        tower = served.towers[0]
        assert isinstance(tower, TransformerTextEncoder)
        _save_backbone(tower, folder)
    _write_modules(folder, config, prompts)


def _save_backbone(tower: TransformerTextEncoder, folder: Path) -> None:
    """Writes `config.json` and the weights under the keys of the transformers library, without its bar."""
    shows_bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # unannotated there
    try:
        tower.backbone.save_pretrained(folder)
    finally:
        if shows_bar:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # unannotated there


def _write_modules(folder: Path, config: TextEncoderConfig, prompts: Prompts) -> None:
    names = ["Transformer", "Pooling", *(["Normalize"] if config.normalize else [])]
    modules = [
        {
            "idx": number,
            "name": str(number),
            "path": "" if number == 0 else f"{number}_{name}",
            "type": f"sentence_transformers.models.{name}",
        }
        for number, name in enumerate(names)
    ]
    (folder / "modules.json").write_text(json.dumps(modules, indent=2) + "\n", encoding="utf-8")
    pooling = {f"pooling_mode_{mode}": config.pooling is kind for kind, mode in _POOLING_MODES.items()}
    (folder / "1_Pooling").mkdir()
    _write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": config.width, **pooling})
    # sentence-transformers keeps `config.json` for a module's own settings; this module has none.
    if config.normalize:
        (folder / "2_Normalize").mkdir()
        _write_json(folder / "2_Normalize" / "config.json", {})
    # do_lower_case is the tokenizer's business: text is never lowered twice.
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": config.max_tokens, "do_lower_case": False})
    _write_prompts(folder, config, prompts)


def _write_prompts(folder: Path, config: TextEncoderConfig, prompts: Prompts) -> None:
    values = {
        "prompts": {"query": prompts.query, "document": prompts.document},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine" if config.normalize else "dot",
    }
    _write_json(folder / "config_sentence_transformers.json", values)


def _tokenizer_config(tokenizer: Tokenizer, max_tokens: int) -> dict[str, Any]:
    inner = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    special = {
        role: next(token for token in tokens if inner.token_to_id(token) is not None)
        for role, tokens in _SPECIAL_TOKENS.items()
        if any(inner.token_to_id(token) is not None for token in tokens)
    }
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_tokens,
        "model_input_names": ["input_ids", "attention_mask"],
        "pad_token": inner.id_to_token(tokenizer.pad_id),
        **special,
    }


def _is_fp32(folder: Path) -> bool:
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="numpy") as tensors:
            kinds = {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118 - not a mapping
        if kinds & {"F16", "BF16"}:
            return False
    return True


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

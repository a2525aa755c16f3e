"""Reads what a Hugging Face or sentence-transformers directory says about its encoder; loads no weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.config import Pooling, TextArchitecture, TextEncoderConfig

__all__ = ["read_text_directory"]

_POOLINGS = {
    "pooling_mode_mean_tokens": Pooling.MEAN,
    "pooling_mode_cls_token": Pooling.CLS,
    "pooling_mode_lasttoken": Pooling.LAST,
}
_MODULES = ("Transformer", "Pooling", "Normalize")
"""The modules of sentence-transformers whose computation an encoder here can repeat."""

_NO_LIMIT_TOKENS = 1_000_000
"""Hugging Face writes an astronomical `model_max_length` where a tokenizer knows none."""


def read_text_directory(directory: Path) -> tuple[TextEncoderConfig, Path]:
    """Reads the encoder's shape, pooling, limit and normalisation.

    Without `modules.json` it is a plain Hugging Face directory: mean pooling, unit vectors, as sentence-transformers
    assumes for similarity.

    Args:
        directory: A folder with `config.json`, and `modules.json` where sentence-transformers wrote it.

    Returns:
        The configuration, and the folder that holds the weights.

    Raises:
        ValueError: The folder is no such directory, or computes something an encoder here cannot repeat.
    """
    modules = _read_modules(directory)
    transformer = directory / modules.get("Transformer", "")
    described = _read_json(transformer / "config.json")
    pooling = _read_pooling(directory / modules["Pooling"]) if "Pooling" in modules else Pooling.MEAN
    limits = _read_optional(transformer / "sentence_bert_config.json")
    _check_lower_case(limits, transformer)
    config = TextEncoderConfig(
        architecture=TextArchitecture.PRETRAINED,
        pooling=pooling,
        normalize=not modules or "Normalize" in modules,
        max_tokens=_max_tokens(described, limits, transformer),
        pretrained=described,
        **_shape(described),
    )
    return config, transformer


def _read_modules(directory: Path) -> dict[str, str]:
    """Returns each module's folder by its kind; empty for a plain Hugging Face directory."""
    path = directory / "modules.json"
    if not path.exists():
        if not (directory / "config.json").exists():
            raise ValueError(
                f"{directory} has neither modules.json nor config.json; it must be a Hugging Face or "
                "sentence-transformers directory"
            )
        return {}
    modules: dict[str, str] = {}
    for entry in json.loads(path.read_text(encoding="utf-8")):
        kind = str(entry["type"]).rsplit(".", 1)[-1]
        if kind not in _MODULES or kind in modules:
            raise ValueError(
                f"{path} has the module {entry['type']}; only one each of {', '.join(_MODULES)} can be loaded"
            )
        modules[kind] = str(entry["path"])
    missing = [kind for kind in ("Transformer", "Pooling") if kind not in modules]
    if missing:
        raise ValueError(f"{path} has no module {' or '.join(missing)}")
    return modules


def _read_pooling(directory: Path) -> Pooling:
    values = _read_json(directory / "config.json")
    if not values.get("include_prompt", True):
        raise ValueError(
            f"{directory} leaves the prompt's tokens out of the pooling (include_prompt), which is not offered"
        )
    if "pooling_mode" in values:
        chosen = values["pooling_mode"]
        names = [chosen] if isinstance(chosen, str) else list(chosen)
        names = ["last" if name == "lasttoken" else name for name in names]
    else:
        switched = [key for key, value in values.items() if key.startswith("pooling_mode_") and value is True]
        names = [str(_POOLINGS.get(key, key)) for key in switched]
    if len(names) != 1 or names[0] not in set(Pooling):
        raise ValueError(
            f"{directory} pools with {', '.join(names) or 'nothing'}; one of mean, cls, last can be loaded"
        )
    return Pooling(names[0])


def _shape(described: Mapping[str, Any]) -> dict[str, int]:
    """Returns the fields of the shape; each family of models has its own words for them."""
    words = {
        "width": ("hidden_size", "d_model", "dim", "n_embd"),
        "layers": ("num_hidden_layers", "n_layers", "n_layer"),
        "heads": ("num_attention_heads", "n_heads", "n_head"),
        "vocab_size": ("vocab_size",),
    }
    shape: dict[str, int] = {}
    for field, names in words.items():
        found = [described[name] for name in names if name in described]
        if not found:
            raise ValueError(f"config.json has no {' or '.join(names)}; it does not describe a sentence encoder")
        shape[field] = int(found[0])
    return shape


def _max_tokens(described: Mapping[str, Any], limits: Mapping[str, Any], transformer: Path) -> int:
    stated = limits.get("max_seq_length")
    if stated is not None:
        return int(stated)
    positions = described.get("max_position_embeddings", 512)
    if "roberta" in str(described.get("model_type")) or described.get("model_type") in {"camembert", "mpnet"}:
        # These count positions from the padding token's id on.
        positions -= int(described.get("pad_token_id", 1)) + 1
    tokenizer_limit = _read_optional(transformer / "tokenizer_config.json").get("model_max_length", _NO_LIMIT_TOKENS)
    return int(min(positions, tokenizer_limit))


def _check_lower_case(limits: Mapping[str, Any], transformer: Path) -> None:
    if not limits.get("do_lower_case"):
        return
    from tokenizers import Tokenizer

    normalizer = Tokenizer.from_file(str(transformer / "tokenizer.json")).normalizer
    if normalizer is None or normalizer.normalize_str("Aa") != "aa":
        raise ValueError(
            f"{transformer / 'sentence_bert_config.json'} asks for do_lower_case, but tokenizer.json does not "
            "lowercase; add a Lowercase normalizer to the tokenizer"
        )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise ValueError(f"{path} is missing")
    values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a JSON object")
    return values


def _read_optional(path: Path) -> dict[str, Any]:
    return _read_json(path) if path.exists() else {}

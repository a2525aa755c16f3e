"""Reads a Hugging Face or sentence-transformers directory as something to export."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from models.bundle.encoder import Modality
from models.bundle.manifest import Limits, Prompts, Provenance
from models.bundle.tokens import Tokenizer
from models.config import TextEncoderConfig
from models.text.build import load_pretrained_text
from models.text.directory import read_text_directory
from models.text.served import ServedTextEncoder
from training.export.source import ExportSource, library_versions
from training.export.text_files import copy_text_directory

__all__ = ["read_directory"]


def read_directory(directory: Path) -> ExportSource:
    """Loads a directory's encoder, tokenizer and prompts.

    Args:
        directory: The folder.

    Returns:
        What is to be exported.

    Raises:
        ValueError: It is no such directory, or has no `tokenizer.json`.
    """
    if not directory.is_dir():
        raise ValueError(f"'{directory}' is no folder; give a run folder or a sentence-transformers directory")
    encoder, config = load_pretrained_text(directory)
    _, weights_folder = read_text_directory(directory)
    try:
        tokenizer = Tokenizer.load(weights_folder)
    except FileNotFoundError as error:
        raise ValueError(
            f"'{directory}' has no tokenizer.json; save it with a fast tokenizer of the transformers library first"
        ) from error
    served = ServedTextEncoder([encoder], normalize=config.normalize).eval()
    return ExportSource(
        modality=Modality.TEXT,
        served=served,
        preparation=tokenizer,
        limits=Limits(max_tokens=config.max_tokens),
        pooling=str(config.pooling),
        metric="cosine" if config.normalize else "inner_product",
        prompts=_read_prompts(directory),
        provenance=Provenance(method="imported", config=_describe(config, weights_folder), versions=library_versions()),
        write_files=partial(_write, weights_folder, served, config),
    )


def _write(source: Path, served: ServedTextEncoder, config: TextEncoderConfig, folder: Path, prompts: Prompts) -> None:
    copy_text_directory(source, folder, served, config, prompts=prompts)


def _read_prompts(directory: Path) -> Prompts:
    """Takes sentence-transformers' named prompts; some models say `passage` where others say `document`."""
    file = directory / "config_sentence_transformers.json"
    if not file.is_file():
        return Prompts()
    values = json.loads(file.read_text(encoding="utf-8"))
    named: dict[str, Any] = values.get("prompts") or {}
    usual = named.get(values.get("default_prompt_name") or "", "")
    document = named.get("document") or named.get("passage") or usual
    return Prompts(query=named.get("query") or usual, document=document)


def _describe(config: TextEncoderConfig, folder: Path) -> dict[str, Any]:
    return {"directory": folder.resolve().name, "encoder": config.to_json()}

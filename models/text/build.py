"""Makes sentence encoders: from a configuration, or from a directory on disk."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, PreTrainedModel
from transformers.utils import logging as transformers_logging

from models.config import TextArchitecture, TextEncoderConfig
from models.text.directory import read_text_directory
from models.text.encoder import TextEncoder
from models.text.gru import GruTextEncoder
from models.text.transformer import TransformerTextEncoder, drop_pooler, huggingface_config

__all__ = ["build_text_encoder", "load_pretrained_text"]


def build_text_encoder(config: TextEncoderConfig) -> TextEncoder:
    """Makes one tower with fresh weights from torch's generator.

    Args:
        config: Its shape; for `towers` of 2 this is called twice.

    Returns:
        The encoder, in training mode.
    """
    if config.architecture is TextArchitecture.GRU:
        return GruTextEncoder(config)
    return TransformerTextEncoder(config)


def load_pretrained_text(directory: Path) -> tuple[TextEncoder, TextEncoderConfig]:
    """Loads a Hugging Face or sentence-transformers directory; no network, no pickle, no code from the directory.

    Args:
        directory: The folder; weights are read from safetensors files only.

    Returns:
        The encoder with the directory's weights in fp32, in training mode, and its configuration with the directory's
        pooling, token limit and normalisation.

    Raises:
        ValueError: The directory is not of the kind, has no safetensors weights, or they do not fill the model.
    """
    config, folder = read_text_directory(Path(directory))
    return TransformerTextEncoder(config, backbone=_load_backbone(config, folder)).train(), config


def _load_backbone(config: TextEncoderConfig, folder: Path) -> PreTrainedModel:
    if not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"{folder} has no .safetensors file; pickled weights (pytorch_model.bin) are not loaded: "
            "convert them with safetensors first"
        )
    described = huggingface_config(config)
    with _quiet():
        loaded: tuple[PreTrainedModel, dict[str, Any]] = AutoModel.from_pretrained(
            folder,
            config=described,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    backbone, report = loaded
    missing = [name for name in report["missing_keys"] if not name.startswith("pooler.")]
    lacking = sorted(missing) + sorted(str(entry[0]) for entry in report.get("mismatched_keys", ()))
    if lacking:
        raise ValueError(
            f"the weights in {folder} do not fill the model: {len(lacking)} tensors lack, first {lacking[0]}"
        )
    return drop_pooler(backbone)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers' bar and its report of dropped heads off the screen; what matters is raised."""
    level = transformers_logging.get_verbosity()
    shows_bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # unannotated there
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if shows_bar:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # unannotated there

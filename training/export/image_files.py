"""Writes what belongs to an image encoder beside its graph."""

from __future__ import annotations

import json
from pathlib import Path

from models.bundle.assemble import PREPROCESSOR_FILE
from models.bundle.manifest import Prompts
from models.bundle.preprocessing import ImagePreprocessing
from models.config import ImageEncoderConfig

__all__ = ["write_image_files"]


def write_image_files(
    config: ImageEncoderConfig, preprocessing: ImagePreprocessing, folder: Path, prompts: Prompts
) -> None:
    """Writes `preprocessor_config.json`, as Hugging Face reads it, and `config.json`, for people.

    Args:
        config: The encoder's shape.
        preprocessing: What is done to an image.
        folder: Where to, empty.
        prompts: None: images have no prompts.

    Raises:
        ValueError: There is a prompt.
    """
    if prompts != Prompts():
        raise ValueError("an image encoder takes no prompts; leave out --prompt-query and --prompt-document")
    values = {"model_type": f"diptych-{config.architecture}", **config.to_json()}
    for name, content in ((PREPROCESSOR_FILE, preprocessing.to_config()), ("config.json", values)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

"""Writes what belongs to an image encoder beside its graph."""

from __future__ import annotations

import json
from pathlib import Path

from models.bundle.assemble import PREPROCESSOR_FILE
from models.bundle.preprocessing import ImagePreprocessing
from models.config import ImageEncoderConfig

__all__ = ["write_image_files"]


def write_image_files(folder: Path, config: ImageEncoderConfig, *, preprocessing: ImagePreprocessing) -> None:
    """Writes `preprocessor_config.json`, as Hugging Face reads it, and `config.json`, for people.

    Args:
        folder: Where to, empty.
        config: The encoder's shape.
        preprocessing: What is done to an image.
    """
    values = {"model_type": f"diptych-{config.architecture}", **config.to_json()}
    for name, content in ((PREPROCESSOR_FILE, preprocessing.to_config()), ("config.json", values)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

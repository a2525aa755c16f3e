"""Checkpoints: tensors and primitives, written whole, read without running anything from the file."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from training.publish import publish_file

__all__ = ["AtomicCheckpointIO", "read_checkpoint"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes Lightning's checkpoints aside and puts them in place at once; reads tensors and primitives only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Writes a checkpoint.

        Args:
            checkpoint: Tensors and primitives.
            path: Where.
            storage_options: Not offered; must be None.
        """
        if storage_options is not None:
            raise TypeError("checkpoints are plain files; storage_options is not offered")
        publish_file(Path(path), lambda temporary: torch.save(checkpoint, temporary))

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any | None = None,  # noqa: ARG002 - Lightning's signature; the trainer moves the tensors
        weights_only: bool | None = None,  # noqa: ARG002 - nothing else is ever allowed
    ) -> dict[str, Any]:
        """Reads a checkpoint onto the CPU.

        Args:
            path: Where.
            map_location: Unused.
            weights_only: Unused: only tensors and primitives are ever read.

        Returns:
            What was saved.
        """
        return dict(read_checkpoint(Path(path)))


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """Reads a checkpoint's tensors and primitives.

    Args:
        path: The file.

    Returns:
        What was saved, on the CPU.

    Raises:
        ValueError: The file is damaged, or holds more than tensors and primitives.
    """
    try:
        content: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is damaged or no checkpoint of a run; start anew with --overwrite") from error
    return content

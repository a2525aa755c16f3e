"""Where a figure was measured: what a reader needs to expect the same one."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

import torch

__all__ = ["describe_environment"]

_LIBRARIES = ("diptych", "torch", "numpy", "onnxruntime", "scikit-learn")
_CPU_INFO = Path("/proc/cpuinfo")


def describe_environment() -> dict[str, str]:
    """Returns processor, threads, accelerator and versions, as text.

    Returns:
        Names to values; a library that is not installed is left out.
    """
    values = {
        "cpu": _processor(),
        "threads": str(torch.get_num_threads()),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "platform": platform.platform(terse=True),
        "python": platform.python_version(),
    }
    return values | {name: version for name in _LIBRARIES if (version := _version(name))}


def _processor() -> str:
    if _CPU_INFO.is_file():
        for line in _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""

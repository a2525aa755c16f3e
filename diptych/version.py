"""The version, where every room can read it without loading anything else."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"

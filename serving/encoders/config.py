"""How the encoders run: threads, budgets and bounds."""

from __future__ import annotations

import os
from dataclasses import dataclass

__all__ = ["RuntimeConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeConfig:
    """Settings of the encoder runtime; the defaults suit a CPU."""

    precision: str = "fp32"
    """Which graph of each bundle runs: `fp32` or `int8`."""
    threads: int = 0
    """Threads of one call of a graph; 0: as many as this process may use cores."""
    prepare_threads: int = 2
    """Threads that tokenize and decode, beside those of the graphs."""
    batch_tokens: int = 8_192
    """Most tokens in one batch of texts, padding included; a single longer text still runs, alone."""
    batch_pixels: int = 4_194_304
    """Most pixels in one batch of images."""
    cache_mb: int = 0
    """Memory, in MB, for the vectors of the items asked for last; 0 keeps none."""
    queue_tokens: int = 262_144
    """Queued texts, in tokens, from which new requests are refused."""
    queue_pixels: int = 134_217_728
    """Queued images, in pixels, from which new requests are refused."""

    def __post_init__(self) -> None:
        if self.precision not in {"fp32", "int8"}:
            raise ValueError(f"precision ({self.precision!r}) must be 'fp32' or 'int8'")
        for name in ("prepare_threads", "batch_tokens", "batch_pixels", "queue_tokens", "queue_pixels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must be at least 1")
        if self.threads < 0:
            raise ValueError(f"threads ({self.threads}) must be 0 (all cores) or more")
        if self.cache_mb < 0:
            raise ValueError(f"cache_mb ({self.cache_mb}) must be 0 (no cache) or more")

    @property
    def graph_threads(self) -> int:
        """Threads of one call, with 0 resolved to the cores this process may use."""
        return self.threads or len(os.sched_getaffinity(0))

"""Signs of collapse, read off the projections of recent batches: their spread, effective rank and uniformity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from training.evaluation.rankme import effective_rank

__all__ = ["CollapseError", "DivergenceError", "ProjectionMonitor", "spread"]

_UNIFORMITY_ROWS = 512
_PATIENCE = 3
"""Measurements in a row below the threshold, so that one odd batch stops nothing."""


class CollapseError(ValueError):
    """The encoder gives all items (almost) the same vector."""


class DivergenceError(ValueError):
    """The loss is no longer a number."""


def spread(projections: Tensor) -> float:
    """Returns the standard deviation of unit projections per dimension, times the root of their width.

    Args:
        projections: `[n, d]`.

    Returns:
        About 1 where they are spread over the whole sphere, 0 where all are one.

    Source: Chen & He 2021, arXiv:2011.10566, figure 2: the std of n(z) is about 1/sqrt(D) in a healthy run.
    """
    unit = F.normalize(projections.float(), dim=1)
    return float(unit.std(dim=0, correction=0).mean()) * math.sqrt(unit.shape[1])


class ProjectionMonitor:
    """Keeps the latest projections and judges them. Its state is saved, so that a resumed run measures the same.

    Args:
        capacity: Rows kept; at least two batches' worth is sensible.
        threshold: Spread below which a run counts as collapsed; 0 never does.
        max_steps: Steps of the run; nothing is judged in its first tenth.
    """

    def __init__(self, *, capacity: int = 1024, threshold: float, max_steps: int) -> None:
        self._capacity = capacity
        self._threshold = threshold
        self._judged_from = max_steps // 10
        self._rows: Tensor | None = None
        self._latest_count = 0
        self._low_count = 0

    def batches(self, rows: int) -> int:
        """Returns how many batches fill the memory; earlier ones need not be shown.

        Args:
            rows: Rows of a batch.

        Returns:
            At least 1.
        """
        return -(-self._capacity // rows)

    def add(self, projections: Tensor) -> None:
        """Takes in one batch.

        Args:
            projections: `[n, d]`, detached.
        """
        new = projections.detach().float().cpu()
        kept = new if self._rows is None else torch.cat([self._rows, new])
        self._rows = kept[-max(self._capacity, new.shape[1]) :]
        self._latest_count = min(len(new), len(self._rows))

    def measure(self) -> dict[str, float]:
        """Measures the rows kept.

        Returns:
            `spread` of the latest batch (1 healthy, 0 collapsed), `uniformity` (0 collapsed, lower is more spread) and,
            once there are at least as many rows as dimensions, `rankme` (1 to d). Empty before the first batch.
        """
        if self._rows is None or len(self._rows) < 2:
            return {}
        # Of one batch: from step to step even a collapsed encoder's single vector moves.
        latest = self._rows[-self._latest_count :]
        found = {"spread": spread(latest), "uniformity": _uniformity(self._rows)}
        if len(self._rows) >= self._rows.shape[1]:
            found["rankme"] = _rankme(self._rows)
        return found

    def judge(self, found: Mapping[str, float], step: int) -> None:
        """Stops a run that has collapsed.

        Args:
            found: What `measure` gave.
            step: Steps done.

        Raises:
            CollapseError: The spread was below the threshold three times in a row, after a tenth of the steps.
        """
        value = found.get("spread")
        if value is None or step < self._judged_from:
            return
        self._low_count = self._low_count + 1 if value < self._threshold else 0
        if self._low_count >= _PATIENCE:
            raise CollapseError(
                f"collapsed at step {step}: the projections' spread is {value:.4f} (1 is healthy), below "
                f"--collapse-threshold ({self._threshold}); lower --learning-rate, raise --batch-size or "
                f"--warmup-steps, or check that the data are not all alike"
            )

    def state_dict(self) -> dict[str, Any]:
        """Returns the rows kept and the counts."""
        return {"rows": self._rows, "latest_count": self._latest_count, "low_count": self._low_count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` gave.

        Args:
            state: The saved state.
        """
        self._rows = state["rows"]
        self._latest_count = state["latest_count"]
        self._low_count = state["low_count"]


def _uniformity(rows: Tensor) -> float:
    """Log of the mean Gaussian potential over distinct pairs of unit rows (Wang & Isola 2020, t = 2)."""
    unit = F.normalize(rows[-_UNIFORMITY_ROWS:], dim=1)
    squared = (2 - 2 * unit @ unit.T).clamp_min(0)
    distinct = torch.triu(torch.ones_like(squared, dtype=torch.bool), diagonal=1)
    return float((-2 * squared[distinct]).exp().mean().log())


def _rankme(rows: Tensor) -> float:
    # Singular values by the d x d product: an SVD of the rows takes ten times as long.
    values = torch.linalg.eigvalsh(rows.T.double() @ rows.double()).clamp_min(0).sqrt()
    return effective_rank(values.numpy()) if bool((values > 0).any()) else 1.0

"""How jobs are run and remembered; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["JobsConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class JobsConfig:
    """What an operator may tune."""

    running_jobs: int = 2
    """Jobs that run at a time; others wait for their turn."""
    kept_jobs: int = 1_000
    """Ended jobs that are remembered, the newest ones..."""
    kept_job_days: int = 30
    """...and no longer than these days after their end."""

    def __post_init__(self) -> None:
        """Checks the bounds.

        Raises:
            ValueError: One is below 1.
        """
        for name in ("running_jobs", "kept_jobs", "kept_job_days"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must be at least 1")

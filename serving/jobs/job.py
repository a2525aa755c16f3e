"""A piece of long work as its callers see it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from serving.errors import ServingError

__all__ = ["Job", "JobState"]


class JobState(StrEnum):
    """Where a job stands."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_end(self) -> bool:
        """Whether nothing follows it."""
        return self not in (JobState.PENDING, JobState.RUNNING)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One piece of long work, at one moment."""

    number: int
    """Rises with every job."""
    name: str
    kind: str
    subject: str
    """What it is done to."""
    state: JobState
    create_time: datetime
    done_count: int = 0
    """Units done; what a unit is, the kind says."""
    total_count: int = 0
    """Units in all; 0 while that is not known."""
    start_time: datetime | None = None
    end_time: datetime | None = None
    error: ServingError | None = None
    """Why it failed."""

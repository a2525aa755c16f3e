"""The table of job kinds: one line each."""

from __future__ import annotations

from collections.abc import Mapping

from serving.jobs.kind import JobKind
from serving.snapshots.restore import RestoreSnapshot
from serving.snapshots.take import TakeSnapshot

__all__ = ["JOB_KINDS"]

JOB_KINDS: Mapping[str, type[JobKind]] = {
    kind.kind: kind
    for kind in (
        TakeSnapshot,
        RestoreSnapshot,
    )
}
"""By the name under which jobs of that kind are stored."""

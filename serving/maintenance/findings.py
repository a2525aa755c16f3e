"""What a check finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["CheckReport", "Finding", "Severity", "Tick"]

Tick = Callable[[str, float], None]
"""Told what is being looked at, and the share of it that is done, in [0, 1]."""


class Severity(StrEnum):
    """What a finding means."""

    DAMAGE = "damage"
    """Something that was written is not there any more as it was."""
    DERIVED = "derived"
    """The same, of what can be made anew from the record."""
    NOTE = "note"
    """Nothing is wrong, but someone may want to know."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing."""

    severity: Severity
    part: str
    """`catalogue`, `collection`, `definition`, `log`, `record`, `source`, `index`, `snapshot`, `jobs` or `folder`."""
    subject: str
    """Name of the collection or snapshot, or a path within the data folder."""
    problem: str
    """One sentence."""
    remedy: str
    """What can be done."""
    uid: str = ""
    """Of the collection it concerns; empty where there is none."""


@dataclass(slots=True)
class CheckReport:
    """Everything that was found, and how much was looked at."""

    findings: list[Finding] = field(default_factory=list)
    collection_count: int = 0
    record_count: int = 0
    snapshot_count: int = 0

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged; notes do not count."""
        return all(finding.severity is Severity.NOTE for finding in self.findings)

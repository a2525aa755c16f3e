"""The images that could not be packed: skipped, counted, listed, while the run goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

__all__ = ["Defect", "QuarantineReport", "QuarantinedImage"]


class Defect(StrEnum):
    """Why an image was skipped."""

    EMPTY = "empty"
    UNREADABLE = "unreadable"
    TOO_LARGE = "too large"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class QuarantinedImage:
    """One image that was skipped."""

    id: str
    """As its reader named it."""
    defect: Defect
    """The kind of reason."""
    reason: str
    """The reason in words, with value and limit."""


@dataclass(frozen=True, slots=True)
class QuarantineReport:
    """All images that were skipped."""

    total: int
    """Images that were looked at."""
    images: Sequence[QuarantinedImage]
    """Those that were skipped, in order."""

    def summary(self) -> str:
        """Returns one line: how many of how many, and of what kinds."""
        if not self.images:
            return f"all {self.total:,} images are good"
        kinds = Counter(image.defect for image in self.images)
        counted = ", ".join(f"{count:,} {defect.value}" for defect, count in kinds.most_common())
        return f"{len(self.images):,} of {self.total:,} images skipped ({counted})"

    def to_json(self) -> dict[str, object]:
        """Returns what `quarantine.json` holds."""
        return {"schema_version": 1, "total": self.total, "images": [asdict(image) for image in self.images]}

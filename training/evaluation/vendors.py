"""Which drawings of a set show the same thing by different hands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.data import ImageData
from training.evaluation.measurement import TaskUnavailableError

__all__ = ["VendorDrawings", "find_vendor_drawings"]

_VENDOR = "vendor"
_CONCEPT = "concept"


@dataclass(frozen=True, slots=True)
class VendorDrawings:
    """Concepts that every vendor has drawn, in one order for all of them."""

    vendors: tuple[str, ...]
    rows: NDArray[np.int64]
    """`[vendors, concepts]`: row of each drawing among the items that were given."""
    groups: NDArray[np.int64]
    """`[concepts]`: concepts of one group differ only in gender and the like."""

    @property
    def directions(self) -> list[tuple[int, int]]:
        """Every ordered pair of vendors, by number."""
        count = len(self.vendors)
        return [(one, other) for one in range(count) for other in range(count) if one != other]


def find_vendor_drawings(data: ImageData, indices: NDArray[np.int64]) -> VendorDrawings:
    """Finds the concepts that all vendors among some items have drawn.

    Args:
        data: Items with the attributes `vendor` and `concept`, and groups.
        indices: `[n]`: the items to look among.

    Returns:
        At least two vendors' drawings of at least two concepts.

    Raises:
        TaskUnavailableError: The items have no vendors and concepts, or too few in common.
    """
    drawings: dict[str, dict[str, int]] = {}
    for row, index in enumerate(indices):
        attributes = data.attributes(int(index))
        if _VENDOR in attributes and _CONCEPT in attributes:
            drawings.setdefault(attributes[_VENDOR], {})[attributes[_CONCEPT]] = row
    vendors = tuple(sorted(drawings))
    shared = sorted(set.intersection(*(set(drawings[vendor]) for vendor in vendors))) if vendors else []
    if len(vendors) < 2 or len(shared) < 2:
        raise TaskUnavailableError(
            f"cross-vendor needs images with the attributes 'vendor' and 'concept', at least two of each; "
            f"the split has {len(vendors)} vendors with {len(shared)} concepts in common"
        )
    rows = np.array([[drawings[vendor][concept] for concept in shared] for vendor in vendors], dtype=np.int64)
    return VendorDrawings(vendors, rows, _groups_of(data, indices[rows[0]], len(shared)))


def _groups_of(data: ImageData, indices: NDArray[np.int64], concept_count: int) -> NDArray[np.int64]:
    """Returns each concept's group; a concept without one is its own, numbered below 0."""
    own = -1 - np.arange(concept_count)
    return own if data.groups is None else np.where(data.groups[indices] >= 0, data.groups[indices], own)

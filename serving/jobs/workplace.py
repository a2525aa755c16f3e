"""What jobs work on."""

from __future__ import annotations

from dataclasses import dataclass

from serving.collections.catalogue import CollectionCatalogue
from serving.snapshots.store import SnapshotStore

__all__ = ["Workplace"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Workplace:
    """The parts of a server that jobs may use, from threads of their own."""

    catalogue: CollectionCatalogue
    snapshots: SnapshotStore

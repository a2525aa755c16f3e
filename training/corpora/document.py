"""A document: sentences in their order, and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Document"]


@dataclass(frozen=True, slots=True)
class Document:
    """Sentences that stand next to each other; adjacency never crosses a document's end."""

    id: str
    """Unique in its corpus."""
    sentences: tuple[str, ...]
    """In reading order, none empty."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """What is known of it, as `title`, `description`, `topic`."""

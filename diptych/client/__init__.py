"""The client: `Client` and `AsyncClient` are in `diptych`; `field` begins a filter."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diptych.client.filters import field

__all__ = ["field"]


def __getattr__(name: str) -> object:
    # Lazy, so that the command's verbs load the wire types only when they call a server.
    if name == "field":
        from diptych.client.filters import field

        return field
    raise AttributeError(f"module 'diptych.client' has no attribute {name!r}")

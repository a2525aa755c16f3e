"""What the wire promises and this server does not offer yet: it answers UNIMPLEMENTED, in so many words."""

from __future__ import annotations

from serving.errors import Unsupported

__all__ = ["UNIMPLEMENTED_METHODS", "filter_refused"]

UNIMPLEMENTED_METHODS: tuple[str, ...] = ()
"""Full names of all methods that answer UNIMPLEMENTED."""


def filter_refused() -> Unsupported:
    """Returns the error of a request with a filter, to be raised."""
    return Unsupported("filters are not offered by this server yet; leave `filter` out", feature="filter")

"""diptych: learns embeddings from your own unlabelled text and images, and serves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diptych.version import __version__

if TYPE_CHECKING:
    from diptych.client.aio import AsyncClient
    from diptych.client.sync import Client

__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> object:
    # Lazy, so that `diptych --help` loads neither grpc nor numpy.
    if name == "Client":
        from diptych.client.sync import Client

        return Client
    if name == "AsyncClient":
        from diptych.client.aio import AsyncClient

        return AsyncClient
    raise AttributeError(f"module 'diptych' has no attribute {name!r}")

"""The flags that say which server a verb speaks to."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diptych.client.sync import Client

__all__ = ["Connection"]


def _server() -> str:
    return os.environ.get("DIPTYCH_SERVER") or "127.0.0.1:50051"


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection:
    """Which server, and how long to wait for it."""

    server: str = field(default_factory=_server)
    """Address of the server, `host:port`; $DIPTYCH_SERVER where unset."""
    timeout_s: float = 60.0
    """Longest wait for one call in seconds, its retries included."""

    def open(self) -> Client:
        """Returns a client; use it in a `with` statement."""
        from diptych.client.sync import Client

        return Client(self.server, timeout_s=self.timeout_s)

"""Where the processes of one server meet: a folder of unix sockets that only its user may enter, and a shared port."""

from __future__ import annotations

import shutil
import socket
import tempfile
from pathlib import Path

__all__ = ["SocketFolder", "check_port_is_free"]

MAX_PATH_BYTES = 107
"""Longest path of a unix socket on Linux."""
LONGEST_NAME = "worker-999-99999999.sock"


class SocketFolder:
    """A folder of its own for the sockets of one server, in the system's folder for temporary files.

    Raises:
        OSError: No folder with a path short enough can be made.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="diptych-"))
        """The folder; mode 0700."""
        if len(bytes(self.path / LONGEST_NAME)) > MAX_PATH_BYTES:
            self.path.rmdir()
            # `TMPDIR` may name any folder; a socket's path must be short.
            self.path = Path(tempfile.mkdtemp(prefix="diptych-", dir="/tmp"))

    @property
    def owner(self) -> Path:
        """The owner's socket."""
        return self.path / "owner.sock"

    def worker(self, number: int, start: int) -> Path:
        """Returns a worker's socket.

        Args:
            number: The worker's.
            start: How many times it was started; each has a socket of its own, so that none meets its predecessor.

        Returns:
            The path.
        """
        return self.path / f"worker-{number}-{start}.sock"

    def remove(self) -> None:
        """Removes the folder and all sockets in it."""
        shutil.rmtree(self.path, ignore_errors=True)


def check_port_is_free(host: str, port: int) -> None:
    """Finds out whether another server listens, which a shared port would not tell.

    Args:
        host: Address to listen on.
        port: Port; 0 is free always.

    Raises:
        OSError: Somebody listens there, or the address is not this machine's.
    """
    if not port:
        return
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            # Ports that a server left a moment ago count as free; those where one listens do not.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)

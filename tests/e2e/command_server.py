"""A server as an operator starts it: `diptych serve` in a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["command_server"]


@contextmanager
def command_server(command: Sequence[str | Path], *, folder: Path) -> Iterator[str]:
    """Serves `folder/bundles` on a free port; yields the address, and asks for a clean stop at the end.

    Args:
        command: Words before `serve`.
        folder: Where it runs; `server.log` in it has what it says.
    """
    log = folder / "server.log"
    with log.open("w") as lines:
        server = subprocess.Popen(
            [*command, "serve", "--bundles", "bundles", "--data", "data", "--port", "0"], cwd=folder, stderr=lines
        )
    try:
        yield _wait_for_address(log, server)
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0, log.read_text()
    finally:
        server.kill()
        server.wait()


def _wait_for_address(log: Path, server: subprocess.Popen[bytes]) -> str:
    for _ in range(600):
        found = re.search(r"listening on ([^\s,]+)", log.read_text())
        if found:
            return found.group(1)
        assert server.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(f"the server did not say where it listens within 60 s\n{log.read_text()}")

"""A server in a process of its own, started and stopped as an operator would."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue

__all__ = ["running_server"]

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0


@contextmanager
def running_server(bundles: Path, data: Path) -> Iterator[str]:
    """Runs `diptych serve` while the block runs, then stops it with SIGTERM.

    Args:
        bundles: Folder of bundles.
        data: Folder for the collections.

    Yields:
        The server's address.

    Raises:
        OSError: It did not start, or did not stop cleanly.
    """
    arguments = ["serve", "--bundles", str(bundles), "--data", str(data), "--port", "0"]
    print(f"\n$ diptych {' '.join(arguments)}", flush=True)
    server = subprocess.Popen(
        [sys.executable, "-m", "diptych.cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    addresses: Queue[str] = Queue()
    echo = threading.Thread(target=_echo, args=(server, addresses), daemon=True)
    echo.start()
    try:
        yield _wait_for_address(server, addresses)
        server.send_signal(signal.SIGTERM)
        code = server.wait(STOP_TIMEOUT_S)
        echo.join(STOP_TIMEOUT_S)
        if code != 0:
            raise OSError(f"the server stopped with exit code {code}; its lines are above")
    finally:
        server.kill()
        server.wait()


def _echo(server: subprocess.Popen[str], addresses: Queue[str]) -> None:
    if server.stdout is None:
        raise AssertionError("the server's output is a pipe")
    for line in server.stdout:
        print(f"  {line.rstrip()}", flush=True)
        found = re.search(r"listening on (\S+?),?\s", line)
        if found:
            addresses.put(found.group(1))


def _wait_for_address(server: subprocess.Popen[str], addresses: Queue[str]) -> str:
    try:
        return addresses.get(timeout=START_TIMEOUT_S)
    except Empty:
        state = "has not said where it listens" if server.poll() is None else f"exited with code {server.returncode}"
        raise OSError(f"the server {state} after {START_TIMEOUT_S:g} s; its lines are above") from None

"""What every section of the benchmark works with."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving.servers import Peers

__all__ = ["Setting", "load", "median", "print_table"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """Material, and how long it is measured."""

    texts: Sequence[str]
    texts_file: Path
    bundle: Path
    """MiniLM's."""
    peers: Peers
    folder: Path
    """For logs and the servers' data."""
    rounds: int
    seconds: float

    def room(self, name: str) -> Path:
        """Returns a folder of its own for a server."""
        folder = self.folder / name
        folder.mkdir()
        return folder


def load(file: Path, address: str, seconds: float, **flags: object) -> dict[str, Any]:
    """Loads a server from another process.

    Args:
        file: What is sent.
        address: The server's.
        seconds: How long.
        **flags: Those of `benchmarks.serving.load`.

    Returns:
        Rates and latencies.

    Raises:
        RuntimeError: The server failed calls.
    """
    words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
    command = [
        sys.executable,
        "-m",
        "benchmarks.serving.load",
        str(file),
        "--server",
        address,
        "--seconds",
        str(seconds),
    ]
    done = subprocess.run([*command, *words], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    if found["errors"]:
        raise RuntimeError(f"the server failed calls: {found['errors']}")
    return found


def median(rounds: Sequence[dict[str, Any]], name: str) -> float:
    """Returns the median of one figure."""
    return float(statistics.median(each[name] for each in rounds))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints Markdown."""
    print("| " + " | ".join(columns) + " |")
    print("|---|" + "---:|" * (len(columns) - 1))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print(flush=True)

"""A server process over a fake encoder: `python -m tests.serving.fake_server FOLDER GATE DRAIN_TIMEOUT_S`.

The encoder waits until the file GATE is there. The address is printed on stdout.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.bundle.encoder import Prepared
from serving.config import ServerConfig
from serving.encoders.loading import BundleFolder
from serving.server import Server, serve
from tests.serving.fake_encoders import FakeEncoder, FakeLoader, write_bundle


class GatedEncoder(FakeEncoder):
    """Waits for a file before it runs its first batch."""

    def __init__(self, name: str, gate: Path) -> None:
        super().__init__(name)
        self._gate = gate

    def run(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        (self._gate.parent / "running").touch()
        while not self._gate.exists():
            time.sleep(0.01)
        return super().run(batch)


def main(folder: Path, gate: Path, drain_timeout_s: float) -> int:
    bundles = folder / "bundles"
    if not bundles.exists():
        write_bundle(bundles, "words")
    config = ServerConfig(bundles=bundles, data=folder / "data", port=0, drain_timeout_s=drain_timeout_s)

    def make_server(config: ServerConfig) -> Server:
        loader = FakeLoader(GatedEncoder("words", gate))
        return Server(config, bundles=BundleFolder(config.bundles, config.runtime, load=loader))

    def announce(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    return asyncio.run(serve(config, announce=announce, make_server=make_server))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])))

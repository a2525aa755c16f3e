"""A server process that logs as `diptych serve` does: `python -m tests.serving.telemetry.logging_server FOLDER FORMAT`.

Its encoders are fakes; they fail with what they were given in the error where that says `explode` or `collapse`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.bundle.encoder import Modality, Prepared, Purpose
from serving.config import ServerConfig
from serving.encoders.loading import BundleFolder
from serving.logs import configure_logging
from serving.server import Server, serve
from serving.telemetry.config import LogConfig
from tests.serving.fake_encoders import FakeEncoder, FakeLoader, write_bundle


class Explosive(FakeEncoder):
    """Fails with errors that quote what they were given."""

    def prepare(self, item: str | bytes, *, purpose: Purpose = Purpose.DOCUMENT, truncate: bool = True) -> Prepared:
        if isinstance(item, str) and "explode" in item:
            raise RuntimeError(f"cannot read {item}")
        self._collapses = isinstance(item, str) and "collapse" in item
        self._last = item
        return super().prepare(item, purpose=purpose, truncate=truncate)

    def run(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        if self._collapses:
            raise ValueError(f"cannot compute {self._last!r}")
        return super().run(batch)


def main(folder: Path, log_format: str) -> int:
    bundles = folder / "bundles"
    encoders = [Explosive("words"), FakeEncoder("pictures", Modality.IMAGE)]
    for name in ("words", "pictures", "broken"):
        write_bundle(bundles, name)
    logs = LogConfig(log_format=log_format, log_level="debug", access_log=True)
    config = ServerConfig(bundles=bundles, data=folder / "data", port=0, logs=logs)
    configure_logging(logs)

    def make_server(config: ServerConfig) -> Server:
        loader = FakeLoader(*encoders, refuse=["broken"])
        return Server(config, bundles=BundleFolder(config.bundles, config.runtime, load=loader))

    def announce(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    return asyncio.run(serve(config, announce=announce, make_server=make_server))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))

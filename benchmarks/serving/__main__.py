"""The server against its encoders called directly, and against its peers: `python -m benchmarks.serving`.

Wikipedia sentences of mixed length through MiniLM, emoji through EfficientNet-Lite0. The bound of each scenario is
preparing and ONNX Runtime called directly, in one process with as many threads, on the same inputs; texts sorted by
length within windows as large as what may be under way in the server, in batches of 32. The load comes from a process
of its own on the same machine. Rounds are interleaved; figures are medians over them, ratios are taken round by round.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from benchmarks.serving.closed_loops import measure_closed_loops
from benchmarks.serving.material import image_bundle, images, text_bundle, texts, write_json
from benchmarks.serving.open_loops import measure_open_loops
from benchmarks.serving.picture_loops import measure_images
from benchmarks.serving.resources import measure_resources
from benchmarks.serving.servers import Peers
from benchmarks.serving.setting import Setting

__all__ = ["ServingBenchmark", "main"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingBenchmark:
    """Measures throughput, latency and memory of `diptych serve`."""

    sections: tuple[Literal["closed", "open", "resources", "images"], ...] = ("closed", "open", "resources", "images")
    """What is measured."""
    peers: bool = True
    """Whether infinity-emb and sentence-transformers are measured too, in environments that are made for them."""
    out: Path = Path("build/benchmarks")
    """Where packs, bundles and environments are kept."""
    items: int = 2000
    """Sentences, and a quarter as many images, that are sent in turn."""
    rounds: int = 5
    """Interleaved rounds."""
    seconds: float = 8.0
    """Of each measurement."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints tables."""
    options = tyro.cli(ServingBenchmark, args=arguments, description=__doc__)
    sentences = texts(options.out, options.items)
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(
            texts=sentences,
            texts_file=write_json(sentences, Path(folder) / "texts.json"),
            bundle=text_bundle(options.out),
            peers=Peers(options.out),
            folder=Path(folder),
            rounds=options.rounds,
            seconds=options.seconds,
        )
        if "closed" in options.sections:
            measure_closed_loops(setting, with_peers=options.peers)
        if "open" in options.sections:
            measure_open_loops(setting)
        if "resources" in options.sections:
            measure_resources(setting)
        if "images" in options.sections:
            measure_images(setting, image_bundle(options.out), images(options.out, options.items // 4))


if __name__ == "__main__":
    main()

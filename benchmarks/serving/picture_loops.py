"""Images: throughput beside decoding, preparing and computing in one process with as many threads."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving.direct import DirectImages
from benchmarks.serving.material import write_json
from benchmarks.serving.servers import diptych_server
from benchmarks.serving.setting import Setting, load, median, print_table

__all__ = ["measure_images"]

CLIENTS, IMAGES = 8, 16


def measure_images(setting: Setting, bundle: Path, images: Sequence[bytes]) -> None:
    """Prints throughput and its ratio to the bound, round by round.

    Args:
        setting: How long.
        bundle: An image encoder's.
        images: Encoded images.
    """
    direct = DirectImages(bundle, "fp32")
    file = write_json(images, setting.folder / "images.json")
    bounds, rounds = [], []
    with diptych_server(bundle, setting.room("images")) as server:
        for _ in range(setting.rounds):
            bounds.append(direct.items_per_s(images, 32, setting.seconds))
            flags = {"clients": CLIENTS, "items": IMAGES, "kind": "image"}
            rounds.append(load(file, server.address, setting.seconds, **flags))
    ratio = statistics.median(each["items_per_s"] / bound for each, bound in zip(rounds, bounds, strict=True))
    size = statistics.mean(len(image) for image in images) / 1e3
    cells = (f"{statistics.median(bounds):.1f}", f"{median(rounds, 'items_per_s'):.1f}", f"{ratio:.3f}")
    columns = ("clients x images", "direct, images/s", "served, images/s", "of direct")
    print_table(columns, [(f"{CLIENTS} x {IMAGES}, {size:.0f} kB each", *cells)])

"""Start-up time and memory of a server with one encoder."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

from benchmarks.serving.servers import RunningServer, diptych_server
from benchmarks.serving.setting import Setting, load, print_table

__all__ = ["measure_resources"]

BUDGETS = (2048, 8192, 32768)


def measure_resources(setting: Setting) -> None:
    """Prints how soon a server is ready, and what memory it takes, at rest and at most.

    Args:
        setting: What is sent, and how long.
    """
    weights_mb = (setting.bundle / "onnx" / "model.onnx").stat().st_size / 1e6
    rows = []
    for budget in BUDGETS:
        starts, resting, peaks = [], [], []
        for number in range(max(1, setting.rounds // 2)):
            room = setting.room(f"resources-{budget}-{number}")
            with diptych_server(setting.bundle, room, "--batch-tokens", str(budget)) as server:
                starts.append(server.ready_s)
                resting.append(_status_mb(server, "VmRSS"))
                load(setting.texts_file, server.address, setting.seconds, clients=8, items=32)
                peaks.append(_status_mb(server, "VmHWM"))
        figures = [statistics.median(each) for each in (starts, resting, peaks)]
        rows.append((budget, f"{figures[0]:.2f}", f"{figures[1]:.0f}", f"{figures[2]:.0f}"))
    print(f"weights: {weights_mb:.1f} MB; 2 x weights + 150 MB = {2 * weights_mb + 150:.0f} MB\n")
    print_table(("--batch-tokens", "ready after, s", "memory after start, MB", "most under 8 x 32, MB"), rows)


def _status_mb(server: RunningServer, field: str) -> float:
    status = Path(f"/proc/{server.pid}/status").read_text(encoding="ascii")
    found = re.search(rf"^{field}:\s+(\d+)", status, re.MULTILINE)
    assert found is not None
    return int(found.group(1)) / 1e3

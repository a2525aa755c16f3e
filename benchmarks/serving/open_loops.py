"""Latency: one idle client; strangers' calls at 70 % of what the server can do; and at three times that."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.serving.direct import DirectTexts
from benchmarks.serving.servers import RunningServer, diptych_server
from benchmarks.serving.setting import Setting, load, median, print_table

__all__ = ["measure_open_loops"]

OVERLOAD = 3.0
LONG = 6.0
"""Overload is measured so many times longer: the queue has to fill first."""


def measure_open_loops(setting: Setting) -> None:
    """Prints latencies and, under overload, what is accepted, how soon the rest is refused, and the memory.

    Args:
        setting: What is sent, and how long.
    """
    with diptych_server(setting.bundle, setting.room("open")) as server:
        _idle(setting, server)
        _strangers(setting, server)
    # A queue of about ten seconds' work, so that it is full for most of the time.
    with diptych_server(setting.bundle, setting.room("overload"), "--queue-tokens", "65536") as server:
        _overload(setting, server)


def _idle(setting: Setting, server: RunningServer) -> None:
    direct = DirectTexts(setting.bundle, "fp32")
    alone, served = [], []
    for _ in range(setting.rounds):
        alone.append(direct.single_ms(setting.texts, setting.seconds / 2))
        served.append(load(setting.texts_file, server.address, setting.seconds / 2, clients=1, items=1)["p50_ms"])
    difference = statistics.median(there - here for here, there in zip(alone, served, strict=True))
    print(
        f"one idle client, one text: p50 {statistics.median(served):.2f} ms, "
        f"direct {statistics.median(alone):.2f} ms, {difference:+.2f} ms\n"
    )


def _strangers(setting: Setting, server: RunningServer) -> None:
    rounds = []
    for _ in range(setting.rounds):
        capacity = load(setting.texts_file, server.address, setting.seconds / 2, clients=64, items=1)["calls_per_s"]
        found = load(setting.texts_file, server.address, setting.seconds, items=1, rate=0.7 * capacity)
        rounds.append(found | {"capacity": capacity, "tail": found["p99_ms"] / found["p50_ms"]})
    print(
        f"open loop at 70 % of {median(rounds, 'capacity'):.0f} calls/s, one text each: p50 "
        f"{median(rounds, 'p50_ms'):.1f} ms, p99 {median(rounds, 'p99_ms'):.1f} ms, "
        f"{median(rounds, 'tail'):.1f} times\n"
    )


def _overload(setting: Setting, server: RunningServer) -> None:
    rows, shares = [], []
    for number in range(max(1, setting.rounds // 2)):
        peak = load(setting.texts_file, server.address, setting.seconds, clients=64, items=1)["items_per_s"]
        before = _resident_mb(server)
        rate = OVERLOAD * peak
        found = load(setting.texts_file, server.address, LONG * setting.seconds, items=1, rate=rate)
        shares.append(found["items_per_s"] / peak)
        cells = (f"{peak:.0f}", f"{rate:.0f}", f"{found['items_per_s']:.0f}", f"{shares[-1]:.2f}")
        times = [found[f"refused_{share}_ms"] for share in ("p50", "p99")]
        refused = (f"{found['refused_per_s']:.0f}", *("" if time is None else f"{time:.1f}" for time in times))
        rows.append((number + 1, *cells, *refused, f"{before:.0f}", f"{_resident_mb(server):.0f}"))
    columns = (
        "round",
        "peak/s",
        "offered/s",
        "accepted/s",
        "of peak",
        "refused/s",
        "refusal p50 ms",
        "refusal p99 ms",
        "MB before",
        "MB after",
    )
    print_table(columns, rows)


def _resident_mb(server: RunningServer) -> float:
    status = Path(f"/proc/{server.pid}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) / 1e3

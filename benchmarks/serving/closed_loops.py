"""Throughput: clients that send their next call when the last is answered; beside the bound and the peers."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import requests

from benchmarks.serving.direct import DirectTexts
from benchmarks.serving.servers import RunningServer, diptych_server, infinity_server, sentence_transformers
from benchmarks.serving.setting import Setting, load, median, print_table

__all__ = ["measure_closed_loops"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A closed loop."""

    name: str
    clients: int
    items: int
    window: int
    """Texts that the bound sorts at a time: what may be under way in the server."""


SCENARIOS = (Scenario("8 x 32", 8, 32, 256), Scenario("4 x 32", 4, 32, 128), Scenario("64 x 1", 64, 1, 64))
INFINITY_SCENARIOS = ("4 x 32", "64 x 1")
SORTED = "all texts sorted at once, direct"
"""What ONNX Runtime can do at most, were all known beforehand."""
Rounds = dict[tuple[str, str], list[dict[str, Any]]]
"""By scenario and who answered."""


def measure_closed_loops(setting: Setting, *, with_peers: bool) -> None:
    """Prints throughput, and its ratio to the bound and to the peers, round by round.

    Args:
        setting: What is sent, and how long.
        with_peers: Whether infinity-emb and sentence-transformers are measured too.
    """
    bounds = {precision: DirectTexts(setting.bundle, precision) for precision in ("fp32", "int8")}
    found: Rounds = defaultdict(list)
    with ExitStack() as stack:
        servers = {
            precision: stack.enter_context(
                diptych_server(setting.bundle, setting.room(f"closed-{precision}"), "--precision", precision)
            )
            for precision in ("fp32", "int8")
        }
        peers = stack.enter_context(_peers(setting)) if with_peers else None
        if peers is not None:
            _require_equal(bounds["fp32"], peers.infinity, setting)
        for number in range(setting.rounds):
            for scenario in SCENARIOS:
                _measure(scenario, setting, bounds, servers, peers, found)
            for precision, direct in bounds.items():
                rate = direct.items_per_s(setting.texts, len(setting.texts), setting.seconds)
                found[SORTED, precision].append({"items_per_s": rate})
            print(f"round {number + 1} of {setting.rounds}", file=sys.stderr, flush=True)
    _print_bounds(found)
    if with_peers:
        _print_peers(found)


@dataclass(frozen=True, slots=True)
class _Peers:
    infinity: RunningServer
    encode: subprocess.Popen[str]

    def encode_items_per_s(self, seconds: float) -> float:
        assert self.encode.stdin is not None
        assert self.encode.stdout is not None
        self.encode.stdin.write(f"{seconds}\n")
        self.encode.stdin.flush()
        return float(self.encode.stdout.readline())


@contextmanager
def _peers(setting: Setting) -> Iterator[_Peers]:
    with (
        infinity_server(setting.peers, setting.bundle, setting.room("infinity")) as infinity,
        sentence_transformers(setting.peers, setting.bundle, setting.texts_file) as encode,
    ):
        yield _Peers(infinity, encode)


def _measure(
    scenario: Scenario,
    setting: Setting,
    bounds: dict[str, DirectTexts],
    servers: dict[str, RunningServer],
    peers: _Peers | None,
    found: Rounds,
) -> None:
    flags = {"clients": scenario.clients, "items": scenario.items}
    for precision, direct in bounds.items():
        rate = direct.items_per_s(setting.texts, scenario.window, setting.seconds)
        found[scenario.name, f"direct {precision}"].append({"items_per_s": rate})
        served = load(setting.texts_file, servers[precision].address, setting.seconds, **flags)
        found[scenario.name, f"diptych {precision}"].append(served)
    if peers is not None and scenario.name in INFINITY_SCENARIOS:
        theirs = load(setting.texts_file, peers.infinity.address, setting.seconds, protocol="http", **flags)
        found[scenario.name, "infinity"].append(theirs)
    if peers is not None and scenario.name == "8 x 32":
        rate = peers.encode_items_per_s(setting.seconds)
        found[scenario.name, "sentence-transformers"].append({"items_per_s": rate})


def _require_equal(direct: DirectTexts, infinity: RunningServer, setting: Setting) -> None:
    """Looks that the peer computes the same before its speed is compared."""
    texts = list(setting.texts[:32])
    reply = requests.post(
        f"http://{infinity.address}/embeddings", json={"input": texts, "model": "model"}, timeout=60
    ).json()
    theirs = np.asarray([one["embedding"] for one in reply["data"]], np.float32)
    cosines = (theirs * direct.embed(texts)).sum(axis=1) / np.linalg.norm(theirs, axis=1)
    if cosines.min() < 0.999:
        raise RuntimeError(f"infinity-emb computes other vectors (worst cosine {cosines.min():.4f})")


def _ratio(found: Rounds, scenario: str, one: str, other: str) -> float:
    pairs = zip(found[scenario, one], found[scenario, other], strict=True)
    return float(statistics.median(a["items_per_s"] / b["items_per_s"] for a, b in pairs))


def _print_bounds(found: Rounds) -> None:
    rows = []
    for precision in ("fp32", "int8"):
        for scenario in SCENARIOS:
            served = found[scenario.name, f"diptych {precision}"]
            rows.append(
                (
                    f"{scenario.name}, {precision}",
                    f"{median(found[scenario.name, f'direct {precision}'], 'items_per_s'):.0f}",
                    f"{median(served, 'items_per_s'):.0f}",
                    f"{_ratio(found, scenario.name, f'diptych {precision}', f'direct {precision}'):.3f}",
                    f"{median(served, 'p50_ms'):.0f}",
                    f"{median(served, 'p99_ms'):.0f}",
                )
            )
    rates = ", ".join(
        f"{precision} {median(found[SORTED, precision], 'items_per_s'):.0f}" for precision in ("fp32", "int8")
    )
    print(f"{SORTED}: {rates} texts/s\n")
    print_table(("clients x texts", "direct, texts/s", "served, texts/s", "of direct", "p50 ms", "p99 ms"), rows)


def _print_peers(found: Rounds) -> None:
    rows = []
    for scenario, peer in (*((name, "infinity") for name in INFINITY_SCENARIOS), ("8 x 32", "sentence-transformers")):
        theirs = found[scenario, peer]
        p50 = f"{median(theirs, 'p50_ms'):.0f}" if "p50_ms" in theirs[0] else ""
        ratios = [f"{_ratio(found, scenario, f'diptych {precision}', peer):.2f}" for precision in ("fp32", "int8")]
        rows.append((f"{peer}, {scenario}", f"{median(theirs, 'items_per_s'):.0f}", p50, *ratios))
    print_table(("peer", "texts/s", "p50 ms", "diptych fp32 over it", "diptych int8 over it"), rows)

"""The server against its own encoder called directly: `python -m benchmarks.serving`.

Wikipedia sentences of mixed length through MiniLM. The bound of each scenario is tokenizing and ONNX Runtime called
directly, in one process with as many threads, on the same texts, sorted by length within windows as large as what may
be under way in the server, in batches of 32. Rounds are interleaved; figures are medians over them.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]  # ships no types
import tyro
from numpy.typing import NDArray
from tokenizers import Tokenizer

from benchmarks.results import ensure_pack
from training.corpora.catalogue import fetch
from training.corpora.splits import Split
from training.corpora.text_pack import TextPack
from training.export.export import export_directory

__all__ = ["ServingBenchmark", "main"]

BATCH = 32
MAX_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Scenario:
    """A closed loop."""

    name: str
    clients: int
    items: int
    window: int
    """Texts that the bound sorts at a time."""


SCENARIOS = (Scenario("8 x 32", 8, 32, 256), Scenario("4 x 32", 4, 32, 128), Scenario("64 x 1", 64, 1, 64))


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingBenchmark:
    """Measures throughput and latency of `diptych serve`."""

    out: Path = Path("build/benchmarks")
    """Where the pack and the bundle are kept."""
    texts: int = 2000
    """Sentences that are sent in turn."""
    rounds: int = 5
    """Interleaved rounds."""
    seconds: float = 8.0
    """Of each measurement."""
    precision: str = "fp32"
    """Graph: fp32 or int8."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints tables."""
    options = tyro.cli(ServingBenchmark, args=arguments, description=__doc__)
    texts = _sentences(options)
    bundle = _bundle(options.out)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texts.json"
        file.write_text(json.dumps(texts), encoding="utf-8")
        with _server(bundle, Path(folder), options.precision) as address:
            _throughput(options, bundle, texts, file, address)
            _idle(options, bundle, texts, file, address)


def _throughput(options: ServingBenchmark, bundle: Path, texts: Sequence[str], file: Path, address: str) -> None:
    direct = _Direct(bundle, options.precision)
    bounds: dict[str, list[float]] = {scenario.name: [] for scenario in SCENARIOS}
    found: dict[str, list[dict[str, Any]]] = {scenario.name: [] for scenario in SCENARIOS}
    for number in range(options.rounds):
        for scenario in SCENARIOS:
            bounds[scenario.name].append(direct.items_per_s(texts, scenario.window, options.seconds))
            flags = ("--clients", str(scenario.clients), "--items", str(scenario.items))
            found[scenario.name].append(_load(file, address, options.seconds, *flags))
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    print("| clients x texts | direct, texts/s | served, texts/s | of direct | p50 ms | p99 ms |")
    print("|---|---:|---:|---:|---:|---:|")
    for scenario in SCENARIOS:
        rounds = found[scenario.name]
        ratios = [each["items_per_s"] / bound for each, bound in zip(rounds, bounds[scenario.name], strict=True)]
        rates = f"{statistics.median(bounds[scenario.name]):.0f} | {_median(rounds, 'items_per_s'):.0f}"
        times = f"{_median(rounds, 'p50_ms'):.1f} | {_median(rounds, 'p99_ms'):.1f}"
        print(f"| {scenario.name} | {rates} | {statistics.median(ratios):.3f} | {times} |")


def _idle(options: ServingBenchmark, bundle: Path, texts: Sequence[str], file: Path, address: str) -> None:
    direct = _Direct(bundle, options.precision)
    alone, served = [], []
    for _ in range(options.rounds):
        alone.append(direct.single_ms(texts, options.seconds / 2))
        served.append(_load(file, address, options.seconds / 2, "--clients", "1", "--items", "1")["p50_ms"])
    difference = statistics.median(there - here for here, there in zip(alone, served, strict=True))
    print(
        f"\none idle client, one text: p50 {statistics.median(served):.2f} ms, "
        f"direct {statistics.median(alone):.2f} ms, {difference:+.2f} ms"
    )


class _Direct:
    """The bundle's tokenizer and graph, without anything of ours around them."""

    def __init__(self, bundle: Path, precision: str) -> None:
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = len(os.sched_getaffinity(0))
        manifest = json.loads((bundle / "diptych.json").read_text(encoding="utf-8"))
        graphs = manifest["encoders"][0]["graphs"]
        self._session = ort.InferenceSession(bundle / graphs[precision]["file"], settings, ["CPUExecutionProvider"])
        self._names = {each.name for each in self._session.get_inputs()}
        self._tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()

    def items_per_s(self, texts: Sequence[str], window: int, seconds: float) -> float:
        """Returns the texts a second, windows sorted by length, after one window to warm up."""
        windows = [texts[start : start + window] for start in range(0, len(texts) - window + 1, window)]
        self._embed(windows[0])
        count, place, start_s = 0, 0, time.perf_counter()
        while time.perf_counter() - start_s < seconds:
            self._embed(windows[place % len(windows)])
            count, place = count + window, place + 1
        return count / (time.perf_counter() - start_s)

    def single_ms(self, texts: Sequence[str], seconds: float) -> float:
        """Returns the median time of one text."""
        took_s: list[float] = []
        end_s = time.perf_counter() + seconds
        while (begin_s := time.perf_counter()) < end_s:
            self._embed([texts[len(took_s) % len(texts)]])
            took_s.append(time.perf_counter() - begin_s)
        return statistics.median(took_s) * 1e3

    def _embed(self, texts: Sequence[str]) -> None:
        ids = sorted((encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))), key=len)
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
            padded = np.zeros((len(batch), len(batch[-1])), np.int64)
            mask = np.zeros_like(padded)
            for row, each in enumerate(batch):
                padded[row, : len(each)], mask[row, : len(each)] = each, 1
            feeds: dict[str, NDArray[np.int64]] = {"input_ids": padded, "attention_mask": mask}
            feeds |= {"token_type_ids": np.zeros_like(padded)} if "token_type_ids" in self._names else {}
            self._session.run(["sentence_embedding"], feeds)


def _sentences(options: ServingBenchmark) -> list[str]:
    pack = TextPack.open(ensure_pack("wiki", options.out / "full", quick=False))
    documents = pack.documents(Split.TEST)
    found = [sentence for document in documents for sentence in document.sentences]
    picked = np.random.default_rng(0).choice(len(found), min(options.texts, len(found)), replace=False)
    return [found[number] for number in picked]


def _bundle(out: Path) -> Path:
    bundle = out / "serving" / "bundles" / "minilm"
    if not bundle.is_dir():
        bundle.parent.mkdir(parents=True, exist_ok=True)
        export_directory(fetch("minilm"), bundle, precisions=("fp32", "int8"))
    return bundle


@contextmanager
def _server(bundle: Path, folder: Path, precision: str) -> Iterator[str]:
    log = folder / "server.log"
    words = ["serve", "--bundles", str(bundle), "--data", str(folder / "data"), "--port", "0", "--precision", precision]
    with log.open("w") as lines:
        server = subprocess.Popen([sys.executable, "-m", "diptych.cli.main", *words], stderr=lines, stdout=lines)
    try:
        yield _address(log, server)
    finally:
        server.terminate()
        server.wait(30)


def _address(log: Path, server: subprocess.Popen[bytes]) -> str:
    while "ready after" not in log.read_text():
        if server.poll() is not None:
            raise RuntimeError(log.read_text())
        time.sleep(0.05)
    found = re.search(r"listening on ([^\s,]+)", log.read_text())
    assert found is not None
    return found.group(1)


def _load(file: Path, address: str, seconds: float, *flags: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.load", str(file), "--server", address, "--seconds", str(seconds)]
    done = subprocess.run([*command, *flags], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    if found["errors"]:
        raise RuntimeError(f"the server failed calls: {found['errors']}")
    return found


def _median(rounds: Sequence[dict[str, Any]], name: str) -> float:
    return float(statistics.median(each[name] for each in rounds))


if __name__ == "__main__":
    main()

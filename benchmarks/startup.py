"""How soon a server of indexed records is ready: `python -m benchmarks.startup`.

Each figure is the median over fresh processes. (a) The store alone, from the process's first instruction: imports,
opening the catalogue (the index mapped, what is newer read), one search. (b) The whole `diptych serve` with
those records and MiniLM's bundle, from the command until health says SERVING, which it says once the bundle's golden
inputs agree, and until a client has the answer of a search by text. Vectors are clustered and random, seed 0.
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tyro
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray

from diptych import Client
from training.corpora.catalogue import fetch
from training.export.export import export_directory

__all__ = ["StartupBenchmark", "make_folder", "measure_server", "measure_start"]

_MEASURE = """
import time
start = time.perf_counter()
import json, sys
from pathlib import Path
import numpy as np
from serving.collections.catalogue import CollectionCatalogue
imported = time.perf_counter()
catalogue = CollectionCatalogue(Path(sys.argv[1]))
opened = time.perf_counter()
collection = catalogue.get("bench")
info = collection.info()
query = np.random.default_rng(1).standard_normal((1, info.spec.dimension)).astype(np.float32)
assert len(collection.search(query, space=info.spec.space, k=10)[0].ids) == 10
searched = time.perf_counter()
print(json.dumps({
    "import_s": imported - start, "open_s": opened - imported, "first_search_s": searched - opened,
    "total_s": searched - start, "records": info.record_count, "indexed": info.indexed_count,
}))
catalogue.close()
"""
_CLUSTERS = 200
_BATCH = 10_000
_POLL_S = 0.01
_START_TIMEOUT_S = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class StartupBenchmark:
    """Measures how soon a data folder is ready."""

    records: int = 10_000
    """Records in the folder."""
    dimension: int = 384
    """Width of their vectors."""
    repeats: int = 5
    """Fresh processes a figure."""
    indexes: tuple[str, ...] = ("exact", "hnsw")
    """Kinds of index: exact, hnsw, ivf."""
    server: bool = True
    """Whether whole servers are started too."""


def make_folder(folder: Path, vectors: NDArray[np.float32], index: str, *, space: str) -> None:
    """Makes a data folder with one collection, `bench`, whose index is up to date.

    Args:
        folder: An empty folder.
        vectors: `[n, d]`.
        index: `exact`, `hnsw` or `ivf`.
        space: The vectors' space, to which the collection is pinned.
    """
    from serving.collections.catalogue import CollectionCatalogue
    from serving.collections.config import CollectionsConfig
    from serving.collections.types import CollectionSpec, IndexKind, IndexSpec, RecordWrite

    # One build, once all is written.
    rows = max(1, len(vectors))
    config = CollectionsConfig(auto_index_records=rows, hnsw_min_records=rows, scrub_bytes_per_s=0)
    catalogue = CollectionCatalogue(folder, config)
    spec = IndexSpec.of_kind(IndexKind(index))
    catalogue.create(
        CollectionSpec(name="bench", encoder="minilm", space=space, dimension=vectors.shape[1], index=spec)
    )
    collection = catalogue.get("bench")
    for first in range(0, len(vectors), _BATCH):
        batch = [
            RecordWrite(id=f"record-{first + row}", vector=vector, metadata={"row": first + row})
            for row, vector in enumerate(vectors[first : first + _BATCH])
        ]
        collection.upsert(batch, space=space)
    collection.settle(3_600)
    catalogue.close()


def measure_start(folder: Path, repeats: int) -> dict[str, float]:
    """Opens a data folder in fresh processes.

    Args:
        folder: From `make_folder`.
        repeats: How many processes.

    Returns:
        Median seconds of each phase, and the numbers of records.
    """
    runs: list[dict[str, float]] = []
    for _ in range(repeats):
        done = subprocess.run([sys.executable, "-c", _MEASURE, str(folder)], check=True, capture_output=True, text=True)
        runs.append(json.loads(done.stdout))
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def measure_server(bundles: Path, folder: Path, repeats: int) -> dict[str, float]:
    """Starts whole servers.

    Args:
        bundles: Folder of bundles, of which `minilm` made the collection's vectors.
        folder: From `make_folder`.
        repeats: How many processes.

    Returns:
        Median seconds until health says SERVING and until a search by text is answered.
    """
    runs = [_start_server(bundles, folder) for _ in range(repeats)]
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def _start_server(bundles: Path, folder: Path) -> dict[str, float]:
    command = [str(Path(sys.executable).parent / "diptych"), "serve", "--bundles", str(bundles), "--data", str(folder)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.perf_counter()
    server = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.initial_reconnect_backoff_ms", 50)]) as channel:
            _wait_until_serving(health_pb2_grpc.HealthStub(channel), started)
        serving = time.perf_counter()
        with Client(f"127.0.0.1:{port}") as client:
            assert len(list(client.search("bench", text="the white whale", k=10))) == 10
        searched = time.perf_counter()
        server.terminate()
        if server.wait(_START_TIMEOUT_S) != 0:
            raise OSError(f"the server stopped with exit code {server.returncode}")
    finally:
        server.kill()
        server.wait()
    return {"serving_s": serving - started, "searched_s": searched - started}


def _wait_until_serving(health: Any, started: float) -> None:
    while time.perf_counter() - started < _START_TIMEOUT_S:
        try:
            answer = health.Check(health_pb2.HealthCheckRequest(), timeout=1)
        except grpc.RpcError:
            pass
        else:
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
        time.sleep(_POLL_S)
    raise OSError(f"the server was not ready after {_START_TIMEOUT_S:g} s")


def main(benchmark: StartupBenchmark) -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((_CLUSTERS, benchmark.dimension))
    vectors = rng.standard_normal((benchmark.records, benchmark.dimension), dtype=np.float32)
    vectors *= np.float32(0.8)
    vectors += centres.astype(np.float32)[rng.integers(0, _CLUSTERS, benchmark.records)]
    print(f"{benchmark.records} records x {benchmark.dimension}, median of {benchmark.repeats} processes")
    print("index  in base  import_s  open_s  first_search_s  total_s  serving_s  searched_s")
    with tempfile.TemporaryDirectory() as place:
        bundle = Path(place) / "bundles" / "minilm"
        space = export_directory(fetch("minilm"), bundle).encoders[0].space if benchmark.server else "none"
        for index in benchmark.indexes:
            folder = Path(place) / index
            make_folder(folder, vectors, index, space=space)
            found = {"serving_s": float("nan"), "searched_s": float("nan")} | measure_start(folder, benchmark.repeats)
            if benchmark.server:
                found |= measure_server(bundle.parent, folder, benchmark.repeats)
            print(
                f"{index:5}  {found['indexed']:7.0f}  {found['import_s']:8.3f}  {found['open_s']:6.3f}  "
                f"{found['first_search_s']:14.4f}  {found['total_s']:7.3f}  {found['serving_s']:9.3f}  "
                f"{found['searched_s']:10.3f}"
            )


if __name__ == "__main__":
    main(tyro.cli(StartupBenchmark))

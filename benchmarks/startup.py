"""How soon a data folder of indexed records is ready: `python benchmarks/startup.py`.

Each figure is the median over fresh processes, from the process's first instruction: imports, opening the catalogue
(everything checked, the index mapped or read), and one search. Vectors are clustered and random, seed 0.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray

__all__ = ["StartupBenchmark", "make_folder", "measure_start"]

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
assert len(collection.search(query, space="", k=10)[0].ids) == 10
searched = time.perf_counter()
print(json.dumps({
    "import_s": imported - start, "open_s": opened - imported, "first_search_s": searched - opened,
    "total_s": searched - start, "records": info.record_count, "indexed": info.indexed_count,
}))
catalogue.close()
"""
_CLUSTERS = 200
_BATCH = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class StartupBenchmark:
    """Measures how soon a data folder is ready."""

    records: int = 10_000
    """Records in the folder."""
    dimension: int = 384
    """Width of their vectors."""
    repeats: int = 5
    """Fresh processes a figure."""


def make_folder(folder: Path, vectors: NDArray[np.float32], index: str) -> None:
    """Makes a data folder with one collection, `bench`, whose index is up to date.

    Args:
        folder: An empty folder.
        vectors: `[n, d]`.
        index: `exact` or `hnsw`.
    """
    from serving.collections.catalogue import CollectionCatalogue
    from serving.collections.types import CollectionSpec, IndexKind, RecordWrite

    catalogue = CollectionCatalogue(folder)
    catalogue.create(CollectionSpec(name="bench", space="", dimension=vectors.shape[1], index=IndexKind(index)))
    collection = catalogue.get("bench")
    for first in range(0, len(vectors), _BATCH):
        batch = [
            RecordWrite(id=f"record-{first + row}", vector=vector, metadata={"row": first + row})
            for row, vector in enumerate(vectors[first : first + _BATCH])
        ]
        collection.upsert(batch, space="")
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


def main(benchmark: StartupBenchmark) -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((_CLUSTERS, benchmark.dimension))
    noise = 0.8 * rng.standard_normal((benchmark.records, benchmark.dimension))
    vectors = (centres[rng.integers(0, _CLUSTERS, benchmark.records)] + noise).astype(np.float32)
    print(f"{benchmark.records} records x {benchmark.dimension}, median of {benchmark.repeats} processes")
    print("index  in base  import_s  open_s  first_search_s  total_s")
    for index in ("exact", "hnsw"):
        with tempfile.TemporaryDirectory() as folder:
            make_folder(Path(folder), vectors, index)
            found = measure_start(Path(folder), benchmark.repeats)
        print(
            f"{index:5}  {found['indexed']:7.0f}  {found['import_s']:8.3f}  {found['open_s']:6.3f}  "
            f"{found['first_search_s']:14.4f}  {found['total_s']:7.3f}"
        )


if __name__ == "__main__":
    main(tyro.cli(StartupBenchmark))

"""A process killed at any moment of writing: what it acknowledged is there, the rest is whole or absent."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.collections.catalogue import CollectionCatalogue
from serving.collections.collection import Collection
from serving.collections.config import CollectionsConfig
from serving.collections.types import CollectionSpec, Record

WRITERS = 3
BATCH = 4
DIMENSION = 16
CONFIG = CollectionsConfig(
    auto_index_records=200, tail_min_records=50, tail_max_records=200, search_threads=1, build_threads=1
)

# Each writer acknowledges "writer batch" once a batch of new records and one record that it overwrites every time are
# stored. Index builds run beside it, so that the kill falls into them too.
WRITE = f"""
import sys, threading
from pathlib import Path
import numpy as np
from serving.collections.catalogue import CollectionCatalogue
from serving.collections.collection import Collection
from serving.collections.config import CollectionsConfig
from serving.collections.types import RecordWrite

catalogue = CollectionCatalogue(Path(sys.argv[1]), {CONFIG!r})
collection = catalogue.get("c")
start = int(sys.argv[2])

def vector(writer, batch, row):
    return np.random.default_rng((writer, batch, row)).standard_normal({DIMENSION}).astype(np.float32)

def work(writer):
    batch = start
    while True:
        rows = [(f"{{writer}}-{{batch}}-{{row}}", row) for row in range({BATCH})] + [(f"last-{{writer}}", 99)]
        writes = [RecordWrite(id=name, vector=vector(writer, batch, row)) for name, row in rows]
        collection.upsert(writes, space="")
        sys.stdout.write(f"{{writer}} {{batch}}\\n")
        sys.stdout.flush()
        batch += 1

threads = [threading.Thread(target=work, args=(writer,)) for writer in range({WRITERS})]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def vector(writer: int, batch: int, row: int) -> NDArray[np.float32]:
    made = np.random.default_rng((writer, batch, row)).standard_normal(DIMENSION).astype(np.float32)
    return (made / np.linalg.norm(made.astype(np.float64))).astype(np.float32)


def write_until_killed(folder: Path, start: int, delay_s: float) -> dict[int, int]:
    """Returns per writer the last batch it acknowledged before it was killed."""
    acknowledged: dict[int, int] = {}
    with subprocess.Popen(
        [sys.executable, "-c", WRITE, str(folder), str(start)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        time.sleep(delay_s)
        process.kill()
        lines += process.stdout.read().splitlines(keepends=True)
    for line in lines:
        if line.endswith("\n"):
            writer, batch = map(int, line.split())
            acknowledged[writer] = batch
    assert acknowledged, "the writing process never got to its first batch"
    return acknowledged


def check_round(folder: Path, start: int, acknowledged: dict[int, int]) -> None:
    catalogue = CollectionCatalogue(folder, CONFIG)
    assert not catalogue.damaged()
    for writer in range(WRITERS):
        check_writer(catalogue.get("c"), writer, start, acknowledged.get(writer, start - 1))
    check_found(catalogue.get("c"))
    catalogue.close()


def check_writer(collection: Collection, writer: int, start: int, last: int) -> None:
    """Checks one writer's batches from `start`; `last` is the last it acknowledged, and one more may be stored."""
    for batch in range(start, last + 1):
        assert stored_whole(collection, writer, batch)
    newest = last + 1 if stored_whole(collection, writer, last + 1) else last
    assert not stored_whole(collection, writer, last + 2)
    if newest >= start:
        (overwritten,) = collection.get([f"last-{writer}"])
        assert overwritten is not None
        np.testing.assert_allclose(overwritten.vector, vector(writer, newest, 99), atol=1e-6)


def stored_whole(collection: Collection, writer: int, batch: int) -> bool:
    """Returns whether a batch is there, with its vectors; half of one fails."""
    records = collection.get([f"{writer}-{batch}-{row}" for row in range(BATCH)])
    present = [record for record in records if record is not None]
    assert len(present) in {0, BATCH}
    for row, record in enumerate(present):
        np.testing.assert_allclose(record.vector, vector(writer, batch, row), atol=1e-6)
    return bool(present)


def check_found(collection: Collection) -> None:
    """Every stored record finds itself, exactly and through whatever index survived."""
    records: list[Record] = []
    while page := collection.list(page_size=1_000, after_id=records[-1].id if records else ""):
        records += page
    assert len(records) == collection.count()
    some = records[:: max(1, len(records) // 50)]
    for exact in (True, False):
        hits = collection.search(np.stack([record.vector for record in some]), space="", k=1, exact=exact)
        assert [hit.ids[0] for hit in hits] == [record.id for record in some]


def run_rounds(folder: Path, rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    catalogue = CollectionCatalogue(folder, CONFIG)
    catalogue.create(CollectionSpec(name="c", space="", dimension=DIMENSION))
    catalogue.close()
    for number in range(rounds):
        start = number * 100_000
        acknowledged = write_until_killed(folder, start, rng.uniform(0, 0.4))
        check_round(folder, start, acknowledged)


def test_kill_at_any_moment_loses_nothing_acknowledged(tmp_path: Path) -> None:
    run_rounds(tmp_path, rounds=3, seed=1)


@pytest.mark.slow
def test_kill_at_many_moments_loses_nothing_acknowledged(tmp_path: Path) -> None:
    run_rounds(tmp_path, rounds=40, seed=2)

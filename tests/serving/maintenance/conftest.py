from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serving.collections.catalogue import CollectionCatalogue
from serving.collections.config import CollectionsConfig
from serving.collections.types import CollectionSpec, RecordWrite
from serving.jobs.kinds import JOB_KINDS
from serving.jobs.runner import JOBS_FILE, JobRunner
from serving.jobs.workplace import Workplace
from serving.snapshots.store import SNAPSHOTS_FOLDER, SnapshotStore
from serving.snapshots.take import TakeSnapshot

DIMENSION = 64
RECORDS = 150
CONFIG = CollectionsConfig(
    auto_index_records=100, hnsw_min_records=50, tail_min_records=50, search_threads=1, build_threads=1
)


def write_of(name: str, number: int, *, source: bool) -> RecordWrite:
    vector = np.random.default_rng((len(name), number)).standard_normal(DIMENSION).astype(np.float32)
    text = f"{name} {number} ".encode() * 20
    return RecordWrite(
        id=f"{name}-{number:04d}",
        vector=vector,
        metadata={"n": number, "text": "x" * 100},
        source=text if source else None,
        source_type="text/plain" if source else "",
    )


@pytest.fixture(scope="session")
def sound_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with two indexed collections, one with sources, an ended job and a snapshot; not to be changed."""
    folder = tmp_path_factory.mktemp("sound") / "data"
    folder.mkdir()
    catalogue = CollectionCatalogue(folder, CONFIG)
    for name in ("alpha", "beta"):
        catalogue.create(CollectionSpec(name=name, space="s", dimension=DIMENSION, retain_source=name == "alpha"))
        collection = catalogue.get(name)
        writes = [write_of(name, number, source=name == "alpha") for number in range(RECORDS)]
        collection.upsert(writes, space="s", request_id="first")
        assert collection.settle(60)
        collection.upsert(writes[:2], space="s")
        collection.delete([f"{name}-0002"])
        collection.update_metadata(f"{name}-0003", {"n": 99})
    store = SnapshotStore(folder / SNAPSHOTS_FOLDER)
    runner = JobRunner(folder / JOBS_FILE, JOB_KINDS, Workplace(catalogue=catalogue, snapshots=store))
    job = runner.submit(TakeSnapshot(snapshot="alpha-copy", collection="alpha"))
    while not runner.get(job.name).state.is_end:
        time.sleep(0.01)
    assert runner.get(job.name).error is None
    runner.close()
    catalogue.close()
    return folder


@pytest.fixture
def folder(sound_folder: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    import shutil

    return Path(shutil.copytree(sound_folder, tmp_path / "data"))


@pytest.fixture
def place(folder: Path) -> Callable[[str], Path]:
    """Finds the only path in the folder that matches."""

    def find(pattern: str) -> Path:
        (path,) = folder.glob(pattern)
        return path

    return find

"""A file system that is really full: writes are refused, reads and searches go on, and writes resume with room."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.collections import writer
from serving.collections.catalogue import CollectionCatalogue
from serving.collections.collection import Collection
from serving.collections.config import CollectionsConfig
from serving.collections.types import CollectionSpec, IndexKind, IndexSpec, RecordWrite
from serving.encoders.aliases import read_aliases, write_aliases
from serving.errors import StorageFull

DIMENSION = 256
DISK_BYTES = 12 << 20
CONFIG = CollectionsConfig(
    hnsw_min_records=400, tail_min_records=100, tail_max_records=2_000, search_threads=1, build_threads=1
)


class SmallDisk:
    """A file system of a few megabytes, and a ballast that takes what room is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, *, leave_bytes: int = 0) -> None:
        """Takes all room but some."""
        with self._ballast.open("ab", buffering=0) as ballast:
            while True:
                try:
                    ballast.write(bytes(4_096))
                except OSError:
                    break
        if leave_bytes:
            with self._ballast.open("rb+") as ballast:
                ballast.truncate(max(0, self._ballast.stat().st_size - leave_bytes))

    def make_room(self) -> None:
        self._ballast.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    options = f"size={DISK_BYTES}"
    try:
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command, so no small file system to fill")
    if made.returncode:
        pytest.skip(f"no small file system can be mounted here ({made.stderr.strip()}); run as root")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def reopen(disk: SmallDisk) -> Iterator[Callable[[], CollectionCatalogue]]:
    opened: list[CollectionCatalogue] = []

    def again() -> CollectionCatalogue:
        for catalogue in opened:
            catalogue.close()
        opened.append(CollectionCatalogue(disk.folder / "data", CONFIG))
        return opened[-1]

    yield again
    disk.make_room()
    for catalogue in opened:
        catalogue.close()


def make(catalogue: CollectionCatalogue, index: IndexKind = IndexKind.EXACT) -> Collection:
    catalogue.create(CollectionSpec(name="notes", space="", dimension=DIMENSION, index=IndexSpec.of_kind(index)))
    return catalogue.get("notes")


def vector_of(number: int) -> NDArray[np.float32]:
    made = np.random.default_rng(number).standard_normal(DIMENSION).astype(np.float32)
    return (made / np.linalg.norm(made.astype(np.float64))).astype(np.float32)


def write(collection: Collection, start: int, count: int = 50) -> None:
    numbers = range(start, start + count)
    collection.upsert([RecordWrite(id=f"r{n}", vector=vector_of(n)) for n in numbers], space="")


def write_until_full(collection: Collection, start: int = 0) -> int:
    """Returns how many records were acknowledged."""
    for number in range(start, 100_000, 50):
        try:
            write(collection, number)
        except StorageFull:
            return number
    raise AssertionError("it never filled up")


def check(collection: Collection, count: int) -> None:
    """All acknowledged records are there and found; nothing of the refused batch is."""
    assert collection.count() == collection.info().sequence == count
    records = collection.get([f"r{n}" for n in range(count)])
    assert all(record is not None for record in records)
    assert collection.get([f"r{count}"]) == [None]
    some = range(0, count, 37)
    for exact in (True, False):
        hits = collection.search(np.stack([vector_of(n) for n in some]), space="", k=1, exact=exact)
        assert [hit.ids[0] for hit in hits] == [f"r{n}" for n in some]


def test_writes_are_refused_reads_go_on_and_writes_resume(
    disk: SmallDisk, reopen: Callable[[], CollectionCatalogue], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_CHECKPOINT_PAGES", 64)
    notes = make(reopen())
    disk.fill(leave_bytes=3 << 20)
    count = write_until_full(notes)
    assert count > 500
    for _ in range(3):
        check(notes, count)
        with pytest.raises(StorageFull):
            write(notes, count)
    disk.make_room()
    write(notes, count)
    check(notes, count + 50)
    check(reopen().get("notes"), count + 50)


def test_a_disk_that_fills_up_during_a_checkpoint_loses_nothing(
    disk: SmallDisk,
    reopen: Callable[[], CollectionCatalogue],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    notes = make(reopen())
    write(notes, 0, 1_000)
    disk.fill()
    monkeypatch.setattr(writer, "_CHECKPOINT_PAGES", 1)
    # The log has grown beyond what this write overwrites or appends: it succeeds or not, the checkpoint cannot.
    with pytest.raises(StorageFull):
        write(notes, 1_000)
    notes._writer.between_commits(lambda: notes._writer._checkpoint_if_due())
    check(notes, 1_000)
    disk.make_room()
    write(notes, 1_000)
    check(notes, 1_050)
    check(reopen().get("notes"), 1_050)


def test_a_disk_that_fills_up_during_an_index_build_costs_only_the_index(
    disk: SmallDisk, reopen: Callable[[], CollectionCatalogue], caplog: pytest.LogCaptureFixture
) -> None:
    notes = make(reopen(), IndexKind.HNSW)
    write(notes, 0, 350)
    disk.fill(leave_bytes=400 << 10)
    write(notes, 350, 50)
    assert notes.settle(30)
    assert "index build failed" in caplog.text
    assert notes.info().indexed_count == 0
    check(notes, 400)

    disk.make_room()
    write(notes, 400, 100)
    assert notes.settle(30)
    assert notes.info().indexed_count == 500
    check(notes, 500)
    check(reopen().get("notes"), 500)


def test_a_catalogue_on_a_full_disk_keeps_what_it_has(
    disk: SmallDisk, reopen: Callable[[], CollectionCatalogue]
) -> None:
    catalogue = reopen()
    write(make(catalogue), 0)
    disk.fill()
    with pytest.raises(StorageFull):
        catalogue.create(CollectionSpec(name="other", space="", dimension=2))
    with pytest.raises(StorageFull):
        catalogue.update("notes", "New name")
    with pytest.raises(StorageFull):
        catalogue.delete("notes")
    assert [(info.spec.name, info.spec.display_name) for info in catalogue.list()] == [("notes", "")]
    check(catalogue.get("notes"), 50)

    disk.make_room()
    catalogue.update("notes", "New name")
    catalogue.create(CollectionSpec(name="other", space="", dimension=2))
    again = reopen()
    assert not again.damaged()
    assert [(info.spec.name, info.spec.display_name) for info in again.list()] == [("notes", "New name"), ("other", "")]
    again.delete("notes")
    assert [info.spec.name for info in reopen().list()] == ["other"]


def test_a_start_on_a_full_disk_says_so_and_succeeds_with_room(
    disk: SmallDisk, reopen: Callable[[], CollectionCatalogue]
) -> None:
    write(make(reopen()), 0)
    reopen().close()
    disk.fill()
    with pytest.raises(StorageFull, match="no room"):
        CollectionCatalogue(disk.folder / "data", CONFIG)
    disk.make_room()
    check(reopen().get("notes"), 50)


def test_aliases_on_a_full_disk_stay_as_they_were(disk: SmallDisk) -> None:
    write_aliases(disk.folder, {"live": "minilm@1"})
    disk.fill()
    with pytest.raises(StorageFull):
        write_aliases(disk.folder, {"live": "minilm@2"})
    assert read_aliases(disk.folder) == {"live": "minilm@1"}
    disk.make_room()
    write_aliases(disk.folder, {"live": "minilm@2"})
    assert read_aliases(disk.folder) == {"live": "minilm@2"}
    assert [path.name for path in disk.folder.iterdir()] == ["aliases.json"]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

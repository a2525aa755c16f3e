from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator

import apsw
import numpy as np
import pytest

from serving.collections.collection import Collection
from serving.collections.config import CollectionsConfig
from serving.collections.database import PAGE_BYTES, storage_error
from serving.collections.types import RecordWrite
from serving.errors import StorageFull, Unavailable
from tests.faults.failure import FailedDisk

Make = Callable[..., Collection]
Write = Callable[..., RecordWrite]
SPACE = "space-a"
QUERY = np.ones((1, 8), dtype=np.float32)
BOUNDED = CollectionsConfig(max_database_bytes=40 * PAGE_BYTES)
TEXT = "x" * 5_000


def fill_up(collection: Collection, write: Write) -> int:
    for number in range(1_000):
        try:
            collection.upsert([write(f"r{number}-{i}", metadata={"t": TEXT}) for i in range(3)], space=SPACE)
        except StorageFull:
            return number
    raise AssertionError("it never filled up")


def test_a_full_database_refuses_writes_whole_serves_reads_and_recovers(make_collection: Make, write: Write) -> None:
    collection = make_collection(BOUNDED)
    batches = fill_up(collection, write)
    assert batches > 5

    info = collection.info()
    assert (info.record_count, info.sequence) == (3 * batches, 3 * batches)
    assert collection.get([f"r{batches}-0"]) == [None]
    assert collection.get(["r0-0"])[0] is not None
    assert len(collection.search(QUERY, space=SPACE, k=5)[0].ids) == 5

    collection.delete([f"r{number}-{i}" for number in range(batches // 2) for i in range(3)])
    outcome = collection.upsert([write("again", metadata={"t": TEXT})], space=SPACE)
    assert collection.get(["again"])[0] is not None
    assert outcome.sequence == collection.info().sequence == 3 * batches + 3 * (batches // 2) + 1


def test_what_was_acknowledged_before_the_disk_filled_up_is_there_after_a_restart(
    make_collection: Make, reopen: Callable[..., Collection], write: Write
) -> None:
    batches = fill_up(make_collection(BOUNDED), write)
    assert reopen(BOUNDED).count() == 3 * batches


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Bounds every file this process writes, as a full disk would: the system refuses with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def bound(size_bytes: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))

    yield bound
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_refuses_to_write_is_survived(
    notes: Collection, write: Write, full_disk: Callable[[int], None], reopen: Callable[..., Collection]
) -> None:
    notes.upsert([write("a")], space=SPACE)
    full_disk(64 * 1024)
    batches = fill_up(notes, write)
    assert notes.count() == 1 + 3 * batches
    assert notes.get(["a"])[0] is not None
    full_disk(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    notes.upsert([write("b")], space=SPACE)
    assert reopen().count() == 2 + 3 * batches


def test_a_disk_that_fails_is_not_called_full() -> None:
    failed = FailedDisk(apsw.SQLITE_IOERR_WRITE)
    assert type(storage_error(failed, "collection 'notes'")) is Unavailable
    assert type(storage_error(apsw.FullError("no room"), "collection 'notes'")) is StorageFull

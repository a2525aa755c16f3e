from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from serving.collections.collection import Collection
from serving.collections.index.live import LiveIndex
from serving.collections.transaction import IndexChanges, RecordTransaction, StoredRecord
from serving.collections.types import RecordWrite
from serving.errors import Draining, ServingError, Unavailable

Write = Callable[..., RecordWrite]
SPACE = "space-a"


def in_threads(count: int, work: Callable[[int], object]) -> list[BaseException | None]:
    """Runs `work` in that many threads at once and returns what each raised."""
    raised: list[BaseException | None] = [None] * count

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            raised[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a caller hangs"
    return raised


def test_what_queues_behind_a_commit_is_committed_together(
    notes: Collection, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[int] = []
    first_begun, go_on = threading.Event(), threading.Event()
    apply = LiveIndex.apply

    def slow_apply(index: LiveIndex, changes: IndexChanges, sequence: int) -> None:
        commits.append(len(changes.added))
        first_begun.set()
        go_on.wait(30)
        apply(index, changes, sequence)

    monkeypatch.setattr(LiveIndex, "apply", slow_apply)
    first = threading.Thread(target=notes.upsert, args=([write("first")],), kwargs={"space": SPACE})
    first.start()
    assert first_begun.wait(30)
    queue = notes._writer._queue
    others = threading.Thread(
        target=in_threads, args=(8, lambda number: notes.upsert([write(f"r{number}")], space=SPACE))
    )
    others.start()
    while queue.qsize() < 8:
        pass
    go_on.set()
    first.join()
    others.join()

    assert commits == [1, 8]
    assert notes.count() == 9


def test_one_failing_batch_of_a_group_does_not_touch_the_others(notes: Collection, write: Write) -> None:
    def work(number: int) -> None:
        if number % 2:
            notes.upsert([write(f"r{number}"), write("never", if_version=5)], space=SPACE)
        notes.upsert([write(f"r{number}")], space=SPACE)

    raised = in_threads(10, work)
    assert [error is not None for error in raised] == [bool(number % 2) for number in range(10)]
    assert sorted(record.id for record in notes.list(page_size=100)) == [f"r{n}" for n in range(0, 10, 2)]


def test_an_unforeseen_error_in_one_write_reaches_its_caller_only(notes: Collection, write: Write) -> None:
    def broken(transaction: RecordTransaction) -> None:
        transaction.remove([StoredRecord(key=1, version=1)])
        raise KeyError("a bug")

    notes.upsert([write("a")], space=SPACE)
    with pytest.raises(KeyError, match="a bug"):
        notes._writer.submit(broken)
    assert notes.upsert([write("b")], space=SPACE).sequence == 2
    assert notes.get(["a"])[0] is not None
    assert sorted(notes.search(np.ones((1, 8), np.float32), space=SPACE, k=5)[0].ids) == ["a", "b"]


def test_if_the_writer_dies_nobody_hangs_and_no_search_misses_a_record(
    notes: Collection, write: Write, monkeypatch: pytest.MonkeyPatch, reopen: Callable[..., Collection]
) -> None:
    notes.upsert([write("a")], space=SPACE)

    def die(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(LiveIndex, "apply", die)
    raised = in_threads(6, lambda number: notes.upsert([write(f"r{number}")], space=SPACE))
    assert all(isinstance(error, Unavailable) for error in raised)
    for call in (
        lambda: notes.upsert([write("z")], space=SPACE),
        lambda: notes.search(np.ones((1, 8), np.float32), space=SPACE, k=1),
        notes.count,
        lambda: notes._writer.between_commits(list),
    ):
        with pytest.raises(Unavailable):
            call()
    monkeypatch.undo()
    again = reopen()
    assert again.get(["a"])[0] is not None
    again.upsert([write("z")], space=SPACE)


def test_a_clean_close_folds_the_log_away(notes: Collection, write: Write) -> None:
    notes.upsert([write(f"r{i}") for i in range(100)], space=SPACE)
    path = notes._reader._path
    wal = path.with_name(path.name + "-wal")
    assert wal.stat().st_size > 0
    notes.close()
    assert not wal.exists()


def test_close_finishes_what_was_accepted(notes: Collection, write: Write, reopen: Callable[..., Collection]) -> None:
    acknowledged: list[str] = []

    def work(number: int) -> None:
        for turn in range(50):
            notes.upsert([write(f"r{number}-{turn}")], space=SPACE)
            acknowledged.append(f"r{number}-{turn}")
            if len(acknowledged) == 30:
                notes.close()

    raised = in_threads(4, work)
    assert all(isinstance(error, Draining) for error in raised)
    stored = {record.id for record in reopen().list(page_size=1_000)}
    assert stored == set(acknowledged)


def test_refusals_are_serving_errors_with_their_own_traceback(notes: Collection, write: Write) -> None:
    notes.close()
    caught = []
    for _ in range(2):
        with pytest.raises(ServingError) as info:
            notes.upsert([write("a")], space=SPACE)
        caught.append(info.value)
    assert caught[0] is not caught[1]

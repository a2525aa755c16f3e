"""Records that expire: absent from that instant on for every call, then deleted, and never back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import numpy as np
import pytest

from serving.collections.catalogue import CollectionCatalogue
from serving.collections.clock import SteadyClock, microseconds_of
from serving.collections.collection import Collection
from serving.collections.config import CollectionsConfig
from serving.collections.expiry import Expiry
from serving.collections.record_schema import RECORDS_SCHEMA
from serving.collections.types import CollectionSpec, IndexKind, IndexSpec, RecordWrite
from serving.errors import Corrupted, InvalidInput, RecordNotFound, VersionMismatch

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SPACE = "space-a"
QUERY = np.ones((1, 8), dtype=np.float32)
# The sweeper of its own accord comes too late for any test.
CONFIG = CollectionsConfig(
    auto_index_records=300, hnsw_min_records=100, tail_min_records=100, tail_max_records=1_000, expiry_sweep_s=3_600
)

Write = Callable[..., RecordWrite]


class Clock:
    """Stands where the test puts it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reopen(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Collection]]:
    """Opens the data folder anew and returns `notes`, which the first call makes."""
    opened: list[CollectionCatalogue] = []

    def again(config: CollectionsConfig = CONFIG, **changes: object) -> Collection:
        for catalogue in opened:
            catalogue.close()
        opened.append(CollectionCatalogue(tmp_path / "data", config, clock=clock))
        if not opened[-1].list():
            opened[-1].create(CollectionSpec(name="notes", space=SPACE, dimension=8, **changes))  # type: ignore[arg-type]  # as given
        return opened[-1].get("notes")

    yield again
    for catalogue in opened:
        catalogue.close()


@pytest.fixture
def notes(reopen: Callable[..., Collection]) -> Collection:
    return reopen()


def seen(collection: Collection) -> list[str]:
    """Returns the ids of all records, after checking that every kind of call agrees on them."""
    listed = [record.id for record in collection.list(page_size=1_000)]
    for exact in (True, False):
        (hits,) = collection.search(QUERY, space=SPACE, k=1_000, exact=exact)
        assert sorted(hits.ids) == listed
    (hits,) = collection.search(QUERY, space=SPACE, k=1_000, with_records=True)
    assert hits.records is not None
    assert sorted(record.id for record in hits.records) == listed
    assert collection.count() == collection.info().record_count == len(listed)
    return listed


def test_a_record_is_absent_from_its_instant_on_for_every_call(notes: Collection, write: Write, clock: Clock) -> None:
    end = START + HOUR
    notes.upsert([write("stays"), write("ends", expire_time=end)], space=SPACE)
    clock.now = end - timedelta(microseconds=1)
    assert seen(notes) == ["ends", "stays"]
    (record,) = notes.get(["ends"])
    assert record is not None
    assert record.expire_time == end

    clock.now = end
    assert seen(notes) == ["stays"]
    assert notes.get(["ends", "stays"])[0] is None


def test_a_record_that_had_expired_when_it_was_written_is_never_seen(notes: Collection, write: Write) -> None:
    outcome = notes.upsert([write("late", expire_time=START)], space=SPACE)
    assert outcome.versions == (1,)
    assert seen(notes) == []


def test_writes_take_an_expired_record_for_absent(notes: Collection, write: Write, clock: Clock) -> None:
    notes.upsert([write(name, expire_time=START + HOUR) for name in "abc"], space=SPACE)
    clock.now += HOUR
    with pytest.raises(RecordNotFound):
        notes.update_metadata("a", {"n": 1})
    with pytest.raises(VersionMismatch, match="does not exist"):
        notes.upsert([write("a", if_version=1)], space=SPACE)
    assert notes.delete(["b"]).versions == (0,)
    outcome = notes.upsert([write("a", if_version=0)], space=SPACE)
    assert outcome.versions == (4,)
    clock.now += HOUR
    assert seen(notes) == ["a"]


def test_a_change_of_metadata_keeps_the_time_and_a_new_write_replaces_it(
    notes: Collection, write: Write, clock: Clock
) -> None:
    notes.upsert([write(name, expire_time=START + HOUR) for name in "abc"], space=SPACE)
    notes.update_metadata("a", {"n": 1})
    notes.upsert([write("b")], space=SPACE)
    notes.upsert([write("c", expire_time=START + 2 * HOUR)], space=SPACE)
    found = notes.get(["a", "b", "c"])
    assert [record and record.expire_time for record in found] == [START + HOUR, None, START + 2 * HOUR]
    clock.now += HOUR
    assert seen(notes) == ["b", "c"]
    clock.now += HOUR
    assert seen(notes) == ["b"]


def test_a_sweep_deletes_what_has_expired_in_bounded_writes(notes: Collection, write: Write, clock: Clock) -> None:
    notes.upsert([write(f"r{n}", expire_time=START + HOUR) for n in range(25)], space=SPACE)
    notes.upsert([write("stays")], space=SPACE)
    assert notes.sweep(10) == 0
    clock.now += HOUR
    assert [notes.sweep(10) for _ in range(4)] == [10, 10, 5, 0]
    assert notes.info().sequence == 26 + 25
    assert seen(notes) == ["stays"]
    assert stored_count(notes) == 1


def test_the_sweeper_sweeps_by_itself(reopen: Callable[..., Collection], write: Write, clock: Clock) -> None:
    notes = reopen(CollectionsConfig(expiry_sweep_s=0.01))
    notes.upsert([write(f"r{n}", expire_time=START + HOUR) for n in range(5)], space=SPACE)
    clock.now += HOUR
    for _ in range(1_000):
        if notes.info().sequence == 10:
            break
        notes.upsert([], space=SPACE)
    assert stored_count(notes) == 0


def stored_count(notes: Collection) -> int:
    with notes._reader.snapshot() as connection:
        return len(connection.execute("SELECT key FROM records").fetchall())


@pytest.mark.parametrize("index", [IndexKind.EXACT, IndexKind.HNSW])
def test_expiry_holds_in_the_base_and_through_restarts(
    reopen: Callable[..., Collection], write: Write, clock: Clock, index: IndexKind
) -> None:
    notes = reopen(index=IndexSpec.of_kind(index))
    notes.upsert([write(f"r{n:03}", expire_time=START + HOUR if n % 3 else None) for n in range(120)], space=SPACE)
    assert notes.settle(30)
    stay = [f"r{n:03}" for n in range(0, 120, 3)]
    clock.now += HOUR
    assert seen(notes) == stay
    assert notes.info().indexed_count == (len(stay) if index is IndexKind.HNSW else 0)
    assert seen(reopen()) == stay
    again = reopen()
    assert again.sweep() == 80
    assert again.settle(30)
    assert seen(again) == stay
    assert seen(reopen()) == stay


def test_a_clock_that_is_set_back_brings_nothing_back(notes: Collection, write: Write, clock: Clock) -> None:
    notes.upsert([write("a", expire_time=START + HOUR)], space=SPACE)
    clock.now += HOUR
    assert seen(notes) == []
    clock.now -= HOUR
    assert seen(notes) == []


def test_a_time_without_a_zone_is_refused(notes: Collection, write: Write) -> None:
    with pytest.raises(InvalidInput, match="time zone"):
        notes.upsert([write("a", expire_time=START.replace(tzinfo=None))], space=SPACE)


def test_a_repeated_request_is_recognised_by_its_time_too(notes: Collection, write: Write) -> None:
    first = notes.upsert([write("a", expire_time=START + HOUR)], space=SPACE, request_id="r")
    assert notes.upsert([write("a", expire_time=START + HOUR)], space=SPACE, request_id="r") == first
    with pytest.raises(InvalidInput, match="request_id"):
        notes.upsert([write("a")], space=SPACE, request_id="r")


def test_a_damaged_time_is_never_believed(
    notes: Collection, write: Write, reopen: Callable[..., Collection], tmp_path: Path
) -> None:
    notes.upsert([write("a", expire_time=START + HOUR), write("b")], space=SPACE)
    notes.close()
    (path,) = (tmp_path / "data").glob("collections/notes.*/records.sqlite")
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE records SET expire_us = NULL WHERE key = 1")
    connection.execute("UPDATE records SET expire_us = ? WHERE key = 2", (microseconds_of(START + HOUR),))
    connection.close()
    damaged = reopen()
    for name in "ab":
        with pytest.raises(Corrupted, match=name):
            damaged.get([name])


def test_a_database_of_format_1_opens_with_all_it_holds(
    notes: Collection, write: Write, reopen: Callable[..., Collection], tmp_path: Path, clock: Clock
) -> None:
    notes.upsert([write("old", metadata={"n": 1})], space=SPACE, request_id="r")
    before = notes.get(["old"])[0]
    notes.close()
    (path,) = (tmp_path / "data").glob("collections/notes.*/records.sqlite")
    to_format_1(path)

    migrated = reopen()
    after = migrated.get(["old"])[0]
    assert before is not None
    assert after is not None
    assert (after.version, after.metadata, after.expire_time) == (1, {"n": 1}, None)
    np.testing.assert_array_equal(after.vector, before.vector)
    assert migrated.upsert([write("old", metadata={"n": 1})], space=SPACE, request_id="r").sequence == 1
    migrated.upsert([write("new", expire_time=START + HOUR)], space=SPACE)
    clock.now += HOUR
    assert seen(migrated) == ["old"]
    assert tables(path) == tables_of_new(tmp_path / "new.sqlite")


def to_format_1(path: Path) -> None:
    """Makes of a database what format 1 was; its rows and their checksums are those of that time."""
    connection = apsw.Connection(str(path))
    connection.execute("DROP INDEX records_by_expiry; ALTER TABLE records DROP COLUMN expire_us")
    connection.execute("PRAGMA user_version=1")
    connection.close()


def tables(path: Path) -> list[object]:
    connection = apsw.Connection(str(path))
    found = connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()
    version = connection.execute("PRAGMA user_version").fetchall()
    connection.close()
    return [*found, *version]


def tables_of_new(path: Path) -> list[object]:
    connection = apsw.Connection(str(path))
    connection.execute(RECORDS_SCHEMA.statements)
    for statements in RECORDS_SCHEMA.migrations:
        connection.execute(statements)
    connection.execute(f"PRAGMA user_version={RECORDS_SCHEMA.version}")
    connection.close()
    return tables(path)


def test_what_is_due_agrees_with_a_dictionary_whatever_comes_and_goes(clock: Clock) -> None:
    rng = np.random.default_rng(5)
    expiry = Expiry(np.empty((0, 2), dtype=np.int64), SteadyClock(clock))
    start_us = microseconds_of(START)
    stored: dict[int, int] = {}
    key = 0
    for step in range(300):
        added = [(start_us + int(rng.integers(0, 400)), key + n + 1) for n in range(int(rng.integers(0, 100)))]
        key += len(added)
        expiry.expect(added)
        stored |= {number: time_us for time_us, number in added}
        gone = [number for number in stored if rng.random() < 0.1]
        expiry.forget(gone)
        for number in gone:
            del stored[number]
        clock.now = START + timedelta(microseconds=step)
        due = sorted(number for number, time_us in stored.items() if time_us <= start_us + step)
        assert expiry.due().tolist() == due
        assert expiry.due() is expiry.due()

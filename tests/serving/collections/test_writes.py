from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from serving.collections.collection import Collection
from serving.collections.config import CollectionsConfig
from serving.collections.types import RecordWrite
from serving.errors import (
    DimensionMismatch,
    InvalidInput,
    RecordNotFound,
    ServingError,
    SpaceMismatch,
    VersionMismatch,
)

Write = Callable[..., RecordWrite]
SPACE = "space-a"


def ids(collection: Collection) -> list[str]:
    return [record.id for record in collection.list(page_size=1_000)]


def test_each_record_gets_the_next_sequence_as_its_version(notes: Collection, write: Write) -> None:
    first = notes.upsert([write("a"), write("b")], space=SPACE)
    second = notes.upsert([write("c"), write("a")], space=SPACE)
    assert (first.sequence, tuple(first.versions)) == (2, (1, 2))
    assert (second.sequence, tuple(second.versions)) == (4, (3, 4))
    assert notes.count() == 3
    assert notes.info().sequence == 4


def test_an_upsert_replaces_everything_of_the_record(notes: Collection, write: Write) -> None:
    notes.upsert([write("a", metadata={"old": 1}, fingerprint="f1")], space=SPACE)
    notes.upsert([write("a", np.eye(8)[3], metadata={"new": 2}, fingerprint="f2")], space=SPACE)
    (record,) = notes.get(["a"])
    assert record is not None
    assert record.vector.tolist() == np.eye(8)[3].tolist()
    assert (record.version, dict(record.metadata), record.fingerprint) == (2, {"new": 2}, "f2")


def test_another_space_is_refused_even_at_equal_dimension_and_before_it(notes: Collection, write: Write) -> None:
    with pytest.raises(SpaceMismatch):
        notes.upsert([write("a")], space="space-b")
    with pytest.raises(SpaceMismatch):
        notes.upsert([write("a", [1.0, 2.0])], space="space-b")
    with pytest.raises(SpaceMismatch):
        notes.search(np.ones((1, 3), dtype=np.float32), space="", k=1)
    assert notes.count() == 0


def test_a_bad_batch_writes_nothing_and_names_every_bad_record(notes: Collection, write: Write) -> None:
    batch = [write("a"), write("b", np.zeros(8)), write("c", [1.0]), write("", np.ones(8))]
    with pytest.raises(InvalidInput) as caught:
        notes.upsert(batch, space=SPACE)
    errors = caught.value.item_errors
    assert sorted(errors) == [1, 2, 3]
    assert type(errors[2]) is DimensionMismatch
    assert (notes.count(), notes.info().sequence) == (0, 0)


def test_a_partial_batch_writes_the_good_and_reports_the_bad(notes: Collection, write: Write) -> None:
    batch = [write("a"), write("b", np.zeros(8)), write("c"), write("c"), write("d", if_version=7)]
    outcome = notes.upsert(batch, space=SPACE, allow_partial=True)
    assert tuple(outcome.versions) == (1, 0, 2, 0, 0)
    assert sorted(outcome.errors) == [1, 3, 4]
    assert isinstance(outcome.errors[4], VersionMismatch)
    assert ids(notes) == ["a", "c"]


def test_an_empty_batch_changes_nothing(notes: Collection) -> None:
    outcome = notes.upsert([], space=SPACE)
    assert (outcome.sequence, tuple(outcome.versions)) == (0, ())


def test_if_version_writes_only_over_that_version(notes: Collection, write: Write) -> None:
    notes.upsert([write("a", if_version=0)], space=SPACE)
    notes.upsert([write("a", if_version=1)], space=SPACE)
    with pytest.raises(VersionMismatch) as caught:
        notes.upsert([write("b"), write("a", if_version=1)], space=SPACE)
    assert caught.value.item_errors[1].metadata == {"record_id": "a", "stored_version": "2", "if_version": "1"}
    with pytest.raises(VersionMismatch, match="does not exist"):
        notes.upsert([write("b", if_version=3)], space=SPACE)
    with pytest.raises(VersionMismatch):
        notes.upsert([write("a", if_version=0)], space=SPACE)
    assert (ids(notes), notes.info().sequence) == (["a"], 2)


def test_metadata_alone_may_change_and_the_vector_stays(notes: Collection, write: Write) -> None:
    notes.upsert([write("a", metadata={"x": 1}, fingerprint="f"), write("b")], space=SPACE)
    (before,) = notes.get(["a"])
    outcome = notes.update_metadata("a", {"y": "new"})
    (after,) = notes.get(["a"])
    assert before is not None
    assert after is not None
    assert (outcome.sequence, tuple(outcome.versions)) == (3, (3,))
    assert (dict(after.metadata), after.version, after.fingerprint) == ({"y": "new"}, 3, "f")
    assert after.vector.tobytes() == before.vector.tobytes()
    (hits,) = notes.search(before.vector[None], space=SPACE, k=1)
    assert (list(hits.ids), hits.versions.tolist()) == (["a"], [3])


def test_metadata_of_a_missing_or_changed_record_is_refused(notes: Collection, write: Write) -> None:
    with pytest.raises(RecordNotFound, match="'a'"):
        notes.update_metadata("a", {})
    notes.upsert([write("a")], space=SPACE)
    with pytest.raises(VersionMismatch):
        notes.update_metadata("a", {}, if_version=9)
    assert tuple(notes.update_metadata("a", {}, if_version=1).versions) == (2,)


def test_deleted_records_are_gone_from_everything(notes: Collection, write: Write) -> None:
    notes.upsert([write("a"), write("b"), write("c")], space=SPACE)
    outcome = notes.delete(["b", "missing", "a", "b"])
    assert (outcome.sequence, tuple(outcome.versions)) == (5, (4, 0, 5, 4))
    assert notes.get(["a", "b", "c"])[:2] == [None, None]
    assert (ids(notes), notes.count()) == (["c"], 1)
    (hits,) = notes.search(np.ones((1, 8), dtype=np.float32), space=SPACE, k=5)
    assert list(hits.ids) == ["c"]


def test_a_deleted_id_starts_at_version_zero_again(notes: Collection, write: Write) -> None:
    notes.upsert([write("a")], space=SPACE)
    notes.delete(["a"])
    assert tuple(notes.upsert([write("a", if_version=0)], space=SPACE).versions) == (3,)


def test_sources_are_kept_replaced_and_deleted_with_their_record(
    make_collection: Callable[..., Collection], write: Write
) -> None:
    notes = make_collection(retain_source=True)
    notes.upsert([write("a", source=b"\x00text", source_type="text/plain"), write("b")], space=SPACE)
    a, b = notes.get(["a", "b"])
    assert a is not None
    assert b is not None
    assert (a.source, a.source_type, b.source, b.source_type) == (b"\x00text", "text/plain", None, "")
    notes.upsert([write("a")], space=SPACE)
    (again,) = notes.get(["a"])
    assert again is not None
    assert again.source is None
    with notes._reader.snapshot() as connection:
        assert connection.execute("SELECT count(*) FROM sources").fetchone() == (0,)


def test_a_collection_that_keeps_no_sources_drops_them(notes: Collection, write: Write) -> None:
    notes.upsert([write("a", source=b"text", source_type="text/plain")], space=SPACE)
    (record,) = notes.get(["a"])
    assert record is not None
    assert record.source is None


class TestRequestId:
    def test_a_repeated_upsert_is_done_once_and_answers_the_same(self, notes: Collection, write: Write) -> None:
        batch = [write("a"), write("b", np.zeros(8)), write("c", if_version=4)]
        first = notes.upsert(batch, space=SPACE, allow_partial=True, request_id="r1")
        notes.upsert([write("z")], space=SPACE)
        again = notes.upsert(batch, space=SPACE, allow_partial=True, request_id="r1")
        assert (again.sequence, tuple(again.versions)) == (first.sequence, tuple(first.versions)) == (1, (1, 0, 0))
        assert {i: (type(e), str(e)) for i, e in again.errors.items()} == {
            i: (type(e), str(e)) for i, e in first.errors.items()
        }
        assert notes.info().sequence == 2

    def test_it_is_remembered_over_a_restart(
        self, notes: Collection, write: Write, reopen: Callable[..., Collection]
    ) -> None:
        first = notes.upsert([write("a")], space=SPACE, request_id="r1")
        again = reopen().upsert([write("a")], space=SPACE, request_id="r1")
        assert (again.sequence, tuple(again.versions)) == (first.sequence, tuple(first.versions))

    def test_deletes_and_metadata_updates_have_it_too(self, notes: Collection, write: Write) -> None:
        notes.upsert([write("a"), write("b")], space=SPACE)
        assert notes.update_metadata("a", {"x": 1}, request_id="m").sequence == 3
        assert notes.update_metadata("a", {"x": 1}, request_id="m").sequence == 3
        assert tuple(notes.delete(["b"], request_id="d").versions) == (4,)
        notes.upsert([write("b")], space=SPACE)
        assert tuple(notes.delete(["b"], request_id="d").versions) == (4,)
        assert ids(notes) == ["a", "b"]

    def test_another_write_under_it_is_refused(self, notes: Collection, write: Write) -> None:
        notes.upsert([write("a")], space=SPACE, request_id="r1")
        for other in ([write("b")], [write("a", np.ones(8))], [write("a", metadata={"x": 1})]):
            with pytest.raises(InvalidInput, match="already used"):
                notes.upsert(other, space=SPACE, request_id="r1")
        with pytest.raises(InvalidInput, match="already used"):
            notes.delete(["a"], request_id="r1")
        assert notes.info().sequence == 1

    def test_a_write_that_failed_is_tried_anew(self, notes: Collection, write: Write) -> None:
        with pytest.raises(VersionMismatch):
            notes.upsert([write("a", if_version=1)], space=SPACE, request_id="r1")
        notes.upsert([write("a")], space=SPACE)
        assert tuple(notes.upsert([write("a", if_version=1)], space=SPACE, request_id="r1").versions) == (2,)

    def test_only_the_latest_are_remembered(self, make_collection: Callable[..., Collection], write: Write) -> None:
        notes = make_collection(CollectionsConfig(remembered_requests=2))
        for number in range(3):
            notes.upsert([write("a")], space=SPACE, request_id=f"r{number}")
        assert notes.upsert([write("a")], space=SPACE, request_id="r2").sequence == 3
        assert notes.upsert([write("a")], space=SPACE, request_id="r1").sequence == 2
        assert notes.upsert([write("a")], space=SPACE, request_id="r0").sequence == 4

    def test_an_overlong_one_is_refused(self, notes: Collection, write: Write) -> None:
        with pytest.raises(InvalidInput, match="request_id"):
            notes.upsert([write("a")], space=SPACE, request_id="r" * 129)


def test_writers_from_many_threads_each_get_their_own_versions(notes: Collection, write: Write) -> None:
    versions: list[int] = []
    failures: list[ServingError] = []

    def work(worker: int) -> None:
        for number in range(10):
            batch = [write(f"{worker}-{number}-{i}") for i in range(3)]
            if number % 5 == 4:
                try:
                    notes.upsert([*batch, write("shared", if_version=10**6)], space=SPACE)
                except VersionMismatch as error:
                    failures.append(error)
            else:
                versions.extend(notes.upsert(batch, space=SPACE).versions)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(failures) == 12
    assert sorted(versions) == list(range(1, 6 * 8 * 3 + 1))
    assert notes.count() == len(versions)

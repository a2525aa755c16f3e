"""Filters on a collection: what is declared, what is found, and that both hold through everything that moves rows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

from serving.collections import listing
from serving.collections.catalogue import CollectionCatalogue
from serving.collections.collection import Collection
from serving.collections.config import CollectionsConfig
from serving.collections.filters.conditions import AllOf, Exists, Negation, OneOf, Prefix, Range
from serving.collections.index import draft
from serving.collections.index.ann.build import build_ann
from serving.collections.types import FieldDefinition, FieldType, IndexKind, MetadataValue, RecordWrite
from serving.errors import Corrupted, FailedPrecondition, InvalidInput

Make = Callable[..., Collection]
SPACE = "space-a"
N, S = FieldDefinition("n", FieldType.INTEGER), FieldDefinition("s", FieldType.STRING)
EVEN = OneOf("s", ("even",))


def described(number: int) -> dict[str, MetadataValue]:
    return {"n": number, "s": "odd" if number % 2 else "even"}


def fill(collection: Collection, count: int, first: int = 0) -> None:
    vectors = np.random.default_rng(first).standard_normal((count, 8)).astype(np.float32)
    collection.upsert(
        [
            RecordWrite(id=f"r{first + row:04}", vector=vector, metadata=described(first + row))
            for row, vector in enumerate(vectors)
        ],
        space=SPACE,
    )


def listed(collection: Collection, where: Any, page_size: int = 7) -> list[str]:
    names: list[str] = []
    after = ""
    while True:
        page = collection.list_matching(where, page_size=page_size, after_id=after)
        names += [record.id for record in page.records]
        after = page.next_after_id
        if not after:
            return names


def found(collection: Collection, where: Any, *, k: int = 1_000, with_records: bool = False) -> list[str]:
    query = np.ones((1, 8), dtype=np.float32)
    (hits,) = collection.search(query, space=SPACE, k=k, where=where, with_records=with_records)
    assert len(set(hits.ids)) == len(hits.ids)
    assert np.all(np.diff(hits.scores) <= 0)
    return sorted(hits.ids)


def check(collection: Collection, where: Any, expected: list[str]) -> None:
    assert found(collection, where) == found(collection, where, with_records=True) == expected
    assert listed(collection, where) == expected
    assert collection.count(where) == len(expected)


def names(numbers: Any) -> list[str]:
    return [f"r{number:04}" for number in numbers]


def test_searches_counts_and_lists_agree_on_what_matches(make_collection: Make) -> None:
    collection = make_collection(fields=(N, S), index=IndexKind.EXACT)
    fill(collection, 40)
    check(collection, EVEN, names(range(0, 40, 2)))
    check(collection, AllOf((EVEN, Range(field="n", less=10))), names(range(0, 10, 2)))
    check(collection, Negation(Exists("n")), [])
    with pytest.raises(InvalidInput, match=r"'other', which is not declared \(declared: n \(integer\), s \(string\)\)"):
        collection.count(Exists("other"))


def test_the_nearest_of_those_that_match_are_found(make_collection: Make) -> None:
    collection = make_collection(fields=(N, S), index=IndexKind.EXACT)
    fill(collection, 100)
    query = np.ones((1, 8), dtype=np.float32)
    (every,) = collection.search(query, space=SPACE, k=100)
    (hits,) = collection.search(query, space=SPACE, k=5, where=EVEN)
    assert list(hits.ids) == [name for name in every.ids if int(name[1:]) % 2 == 0][:5]


def test_columns_follow_writes_updates_deletions_builds_and_restarts(
    make_collection: Make, reopen: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = make_collection(fields=(N, S))
    build = build_ann
    during: list[Callable[[], object]] = [
        lambda: collection.update_metadata("r0001", {"s": "even"}),
        lambda: collection.delete(["r0002"]),
        lambda: fill(collection, 1, first=3),
        lambda: collection.update_metadata("r0004", {}),
        lambda: fill(collection, 2, first=300),
    ]

    def build_beside_writes(*args: Any, **kwargs: Any) -> object:
        while during:
            during.pop(0)()
        return build(*args, **kwargs)

    monkeypatch.setattr(draft, "build_ann", build_beside_writes)
    fill(collection, 300)
    assert collection.settle(30)
    assert collection.info().indexed_count == 298
    expected = sorted({*names(range(0, 302, 2)), "r0001"} - {"r0002", "r0004"})
    check(collection, EVEN, expected)

    # Now in the base: an update, an overwritten record, a deletion; and the same in the tail.
    for first in (10, 300):
        collection.update_metadata(f"r{first:04}", {"s": "odd"})
        collection.delete(names([first + 1]))
    fill(collection, 1, first=20)
    expected = [name for name in expected if name not in ("r0010", "r0300")]
    check(collection, EVEN, expected)
    collection = reopen(CollectionsConfig(auto_index_records=400))
    assert collection.info().index_kind is IndexKind.HNSW
    check(collection, EVEN, expected)


def test_columns_follow_a_tail_that_is_packed_and_a_base_that_is_dropped(make_collection: Make) -> None:
    collection = make_collection(fields=(N, S), index=IndexKind.EXACT)
    for _ in range(8):
        fill(collection, 200)
    check(collection, EVEN, names(range(0, 200, 2)))


def test_a_base_that_is_dropped_leaves_its_fields_behind(make_collection: Make) -> None:
    collection = make_collection(fields=(N, S))
    fill(collection, 300)
    assert collection.settle(30)
    collection.delete(names(range(200)))
    assert collection.settle(30)
    assert collection.info().indexed_count == 0
    check(collection, EVEN, names(range(200, 300, 2)))


def test_a_search_sees_the_state_it_began_with(make_collection: Make) -> None:
    collection = make_collection(fields=(N, S))
    fill(collection, 400)
    assert collection.settle(30)
    before = collection._index.view
    collection.update_metadata("r0000", {"s": "odd"})
    collection.delete(["r0002"])
    fill(collection, 50, first=400)
    query = np.ones((1, 8), dtype=np.float32)
    (old,) = before.matching(EVEN).search(query, 1_000, exact=False, score_threshold=None)
    assert sorted(old.ids) == names(range(0, 400, 2))


class TestDeletion:
    def test_all_that_match_go_in_one_commit(self, make_collection: Make, reopen: Make) -> None:
        collection = make_collection(fields=(N, S))
        fill(collection, 350)
        assert collection.settle(30)
        fill(collection, 10, first=350)
        outcome = collection.delete_matching(EVEN, request_id="once")
        assert (len(outcome.versions), outcome.sequence) == (180, 540)
        assert collection.delete_matching(EVEN, request_id="once").versions == outcome.versions
        assert collection.count() == 180
        check(collection, EVEN, [])
        check(reopen(), Exists("s"), names(range(1, 360, 2)))

    def test_writes_in_the_same_commit_come_first(self, make_collection: Make) -> None:
        collection = make_collection(fields=(N, S))
        fill(collection, 4)
        entered, leave = threading.Event(), threading.Event()

        def hold() -> None:
            entered.set()
            leave.wait(30)

        blocker = threading.Thread(target=collection._writer.between_commits, args=(hold,))
        blocker.start()
        assert entered.wait(30)
        calls: list[Callable[[], object]] = [
            lambda: fill(collection, 2, first=4),
            lambda: collection.update_metadata("r0001", {"s": "even"}),
            lambda: collection.update_metadata("r0002", {"s": "odd"}),
            lambda: collection.delete(["r0000"]),
            lambda: deleted.append(len(collection.delete_matching(EVEN).versions)),
        ]
        deleted: list[int] = []
        threads = [threading.Thread(target=call) for call in calls]
        for number, thread in enumerate(threads, 1):
            thread.start()
            while collection._writer._queue.qsize() < number:
                pass
        leave.set()
        for thread in [*threads, blocker]:
            thread.join(30)
        assert deleted == [2]
        check(collection, Exists("n"), ["r0003", "r0005"])
        check(collection, Exists("s"), ["r0002", "r0003", "r0005"])


class TestDeclaring:
    def test_a_field_is_filled_from_the_record_and_may_be_dropped(
        self, open_catalogue: Callable[..., CollectionCatalogue], make_collection: Make, reopen: Make
    ) -> None:
        make_collection()
        catalogue = open_catalogue()
        collection = catalogue.get("notes")
        fill(collection, 300)
        assert collection.settle(30)
        fill(collection, 20, first=290)
        collection.delete(["r0299"])
        collection.update_metadata("r0001", {"s": "even"})
        with pytest.raises(InvalidInput, match="declared: none"):
            collection.count(EVEN)
        assert catalogue.update("notes", fields=[S]).spec.fields == (S,)
        expected = sorted({*names(range(0, 310, 2)), "r0001"})
        check(collection, EVEN, expected)
        assert catalogue.update("notes", "Notes", fields=[N, S]).spec.display_name == "Notes"
        check(collection, Range(field="n", less=2), ["r0000"])
        catalogue.update("notes", fields=[N])
        with pytest.raises(InvalidInput, match=r"declared: n \(integer\)"):
            collection.count(EVEN)
        collection.update_metadata("r0003", {"s": 5})
        collection = reopen()
        assert collection.info().spec.fields == (N,)
        check(collection, Range(field="n", less=5), ["r0000", "r0002", "r0004"])

    def test_what_is_written_meanwhile_is_not_lost(
        self, make_collection: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        collection = make_collection()
        fill(collection, 10)
        between = collection._writer.between_commits

        def after_more_writes(run: Callable[[], Any]) -> Any:
            monkeypatch.setattr(collection._writer, "between_commits", between)
            fill(collection, 5, first=8)
            collection.update_metadata("r0001", {"s": "even"})
            collection.delete(["r0002"])
            return between(run)

        monkeypatch.setattr(collection._writer, "between_commits", after_more_writes)
        collection.add_fields([S])
        check(collection, EVEN, names([0, 1, 4, 6, 8, 10, 12]))

    def test_a_record_that_contradicts_a_new_field_is_named(
        self, open_catalogue: Callable[..., CollectionCatalogue], make_collection: Make
    ) -> None:
        make_collection()
        catalogue = open_catalogue()
        collection = catalogue.get("notes")
        fill(collection, 3)
        collection.update_metadata("r0001", {"n": "three"})
        with pytest.raises(FailedPrecondition, match=r"of record 'r0001', metadata 'n' is a string \('three'\)"):
            catalogue.update("notes", fields=[N, S])
        assert collection.info().spec.fields == ()
        collection.update_metadata("r0001", {})
        catalogue.update("notes", fields=[N, S])
        with pytest.raises(FailedPrecondition, match="declared as integer already, not as float"):
            catalogue.update("notes", fields=[FieldDefinition("n", FieldType.FLOAT)])
        check(collection, Exists("n"), ["r0000", "r0002"])

    def test_fields_that_cannot_be_kept_are_not_declared(
        self,
        open_catalogue: Callable[..., CollectionCatalogue],
        make_collection: Make,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        make_collection()
        catalogue = open_catalogue()

        def refuse(_: object) -> None:
            raise apsw.FullError("disk full")

        monkeypatch.setattr(catalogue._table, "redefine", refuse)
        with pytest.raises(apsw.FullError):
            catalogue.update("notes", fields=[S])
        collection = catalogue.get("notes")
        with pytest.raises(InvalidInput, match="declared: none"):
            collection.count(EVEN)
        collection.upsert([RecordWrite(id="a", vector=np.ones(8, np.float32), metadata={"s": 5})], space=SPACE)


class TestWrites:
    def test_a_record_that_contradicts_a_field_is_refused_by_itself(self, make_collection: Make) -> None:
        collection = make_collection(fields=(N, S))
        vector = np.ones(8, dtype=np.float32)
        batch = [
            RecordWrite(id="a", vector=vector, metadata={"n": 1, "free": "text"}),
            RecordWrite(id="b", vector=vector, metadata={"n": "one"}),
        ]
        with pytest.raises(InvalidInput, match=r"index 1.*metadata 'n' is a string \('one'\)") as caught:
            collection.upsert(batch, space=SPACE)
        assert list(caught.value.item_errors) == [1]
        outcome = collection.upsert(batch, space=SPACE, allow_partial=True)
        assert (list(outcome.versions), list(outcome.errors)) == ([1, 0], [1])
        with pytest.raises(InvalidInput, match="metadata 's' is an integer"):
            collection.update_metadata("a", {"s": 3})
        (record,) = collection.get(["a"])
        assert record is not None
        assert dict(record.metadata) == {"n": 1, "free": "text"}

    def test_a_write_that_waited_while_a_field_was_declared_is_checked_again(
        self, make_collection: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        collection = make_collection()
        submit = collection._writer.submit

        def declare_first(run: Any, **rest: Any) -> Any:
            monkeypatch.setattr(collection._writer, "submit", submit)
            collection.add_fields([N])
            return submit(run, **rest)

        monkeypatch.setattr(collection._writer, "submit", declare_first)
        with pytest.raises(InvalidInput, match="metadata 'n' is a string"):
            collection.upsert([RecordWrite(id="a", vector=np.ones(8, np.float32), metadata={"n": "x"})], space=SPACE)


def test_long_lists_walk_the_ids_in_order(make_collection: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_SORTED_RECORDS", 10)
    monkeypatch.setattr(listing, "_WALKED_IDS", 16)
    collection = make_collection(fields=(N, S))
    fill(collection, 130)
    collection.delete(["r0004"])
    expected = [name for name in names(range(0, 130, 2)) if name != "r0004"]
    assert listed(collection, EVEN, page_size=9) == expected
    assert listed(collection, EVEN, page_size=1_000) == expected
    assert listed(collection, Prefix("s", "x")) == []


def test_a_record_changed_between_search_and_read_never_shows_what_does_not_match(
    make_collection: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = make_collection(fields=(N, S))
    fill(collection, 10)
    read = collection._reader.by_keys
    numbers = iter(range(0, 10, 2))

    def change_first(keys: Any) -> Any:
        collection.update_metadata(f"r{next(numbers):04}", {"s": "odd"})
        return read(keys)

    monkeypatch.setattr(collection._reader, "by_keys", change_first)
    assert found(collection, EVEN, with_records=True) == ["r0006", "r0008"]


def test_damaged_metadata_in_the_base_is_named_and_not_filtered_by(
    make_collection: Make, reopen: Make, tmp_path: Path, open_catalogue: Callable[..., CollectionCatalogue]
) -> None:
    collection = make_collection(fields=(N, S))
    fill(collection, 300)
    assert collection.settle(30)
    open_catalogue().close()
    (path,) = (tmp_path / "data").glob("collections/notes.*/records.sqlite")
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE records SET metadata = ? WHERE key = 7", (b'{"n":6,"s":"odd!"}',))
    connection.close()
    collection = reopen(CollectionsConfig(auto_index_records=400))
    assert (collection.info().record_count, collection.info().indexed_count) == (300, 299)
    for call in (lambda: collection.count(EVEN), lambda: found(collection, None)):
        with pytest.raises(Corrupted, match="'r0006'"):
            call()
    collection.delete(["r0006"])
    check(collection, EVEN, [name for name in names(range(0, 300, 2)) if name != "r0006"])

"""Filters over records that expire: what has expired matches nothing, wherever it lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from serving.collections.catalogue import CollectionCatalogue
from serving.collections.collection import Collection
from serving.collections.config import CollectionsConfig
from serving.collections.filters.conditions import OneOf
from serving.collections.index_types import IndexKind, IndexSpec
from serving.collections.types import CollectionSpec, FieldDefinition, FieldType, RecordWrite

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
EVEN = OneOf("s", ("even",))
CONFIG = CollectionsConfig(
    hnsw_min_records=100, tail_min_records=100, tail_max_records=1_000, search_threads=1, expiry_sweep_s=3_600
)


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
def reopen(tmp_path: Path, clock: Clock) -> Iterator[Callable[[], Collection]]:
    """Opens the data folder anew and returns `notes`, which the first call makes."""
    opened: list[CollectionCatalogue] = []

    def again() -> Collection:
        for catalogue in opened:
            catalogue.close()
        opened.append(CollectionCatalogue(tmp_path / "data", CONFIG, clock=clock))
        if not opened[-1].list():
            fields = (FieldDefinition("s", FieldType.STRING),)
            index = IndexSpec.of_kind(IndexKind.HNSW)
            opened[-1].create(CollectionSpec(name="notes", dimension=8, space="", fields=fields, index=index))
        return opened[-1].get("notes")

    yield again
    for catalogue in opened:
        catalogue.close()


def fill(notes: Collection, first: int, count: int) -> None:
    """Every third record stays, the others end after an hour."""
    vectors = np.random.default_rng(first).standard_normal((count, 8)).astype(np.float32)
    notes.upsert(
        [
            RecordWrite(
                id=f"r{number:03}",
                vector=vector,
                metadata={"s": "odd" if number % 2 else "even"},
                expire_time=START + HOUR if number % 3 else None,
            )
            for number, vector in enumerate(vectors, first)
        ],
        space="",
    )


def matching(notes: Collection) -> list[str]:
    """Returns the ids of what matches, after checking that every kind of call agrees on them."""
    listed = [record.id for record in notes.list_matching(EVEN, page_size=1_000).records]
    query = np.ones((1, 8), dtype=np.float32)
    for exact, with_records in ((True, False), (False, False), (False, True)):
        (hits,) = notes.search(query, space="", k=1_000, exact=exact, where=EVEN, with_records=with_records)
        assert sorted(hits.ids) == listed
        (few,) = notes.search(query, space="", k=3, exact=exact, where=EVEN, with_records=with_records)
        assert list(few.ids) == list(hits.ids)[:3]
    assert notes.count(EVEN) == len(listed)
    return listed


def test_what_has_expired_matches_no_filter_in_base_and_tail(reopen: Callable[[], Collection], clock: Clock) -> None:
    notes = reopen()
    fill(notes, 0, 120)
    assert notes.settle(30)
    fill(notes, 120, 12)
    assert notes.info().indexed_count == 120
    assert matching(notes) == [f"r{number:03}" for number in range(0, 132, 2)]
    clock.now += HOUR
    stay = [f"r{number:03}" for number in range(0, 132, 6)]
    assert matching(notes) == stay
    assert matching(reopen()) == stay


def test_a_deletion_by_filter_leaves_what_has_expired_to_the_sweep(
    reopen: Callable[[], Collection], clock: Clock
) -> None:
    notes = reopen()
    fill(notes, 0, 12)
    clock.now += HOUR
    outcome = notes.delete_matching(EVEN)
    assert outcome.versions == (13, 14)
    assert matching(notes) == []
    assert [record.id for record in notes.list(page_size=20)] == ["r003", "r009"]
    assert (notes.sweep(), notes.sweep()) == (8, 0)
    assert notes.info().sequence == 22


def test_records_deleted_by_a_filter_are_forgotten_by_the_sweep(reopen: Callable[[], Collection], clock: Clock) -> None:
    notes = reopen()
    fill(notes, 0, 12)
    assert len(notes.delete_matching(EVEN).versions) == 6
    clock.now += HOUR
    assert (notes.sweep(limit=3), notes.sweep(limit=3)) == (3, 1)
    assert [record.id for record in notes.list(page_size=20)] == ["r003", "r009"]


def test_a_field_declared_later_is_filled_without_what_has_expired(
    reopen: Callable[[], Collection], clock: Clock, tmp_path: Path
) -> None:
    notes = reopen()
    fill(notes, 0, 12)
    notes.update_metadata("r001", {"s": "odd", "n": 1})
    notes.update_metadata("r003", {"s": "odd", "n": 1})
    clock.now += HOUR
    number = FieldDefinition("n", FieldType.INTEGER)
    notes.add_fields((*notes.definition.spec.fields, number))
    assert [record.id for record in notes.list_matching(OneOf("n", (1,)), page_size=9).records] == ["r003"]

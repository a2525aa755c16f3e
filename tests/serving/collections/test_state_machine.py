"""A collection driven beside a plain dictionary: through restarts, crashes, index builds and expiry at any moment."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from numpy.typing import NDArray

from serving.collections.catalogue import CollectionCatalogue
from serving.collections.collection import Collection
from serving.collections.config import CollectionsConfig
from serving.collections.filters.conditions import Exists, OneOf, Range
from serving.collections.types import CollectionSpec, FieldDefinition, FieldType, Metric, RecordWrite, WriteOutcome
from serving.errors import DimensionMismatch, InvalidInput, RecordNotFound, VersionMismatch

# So few records that every example crosses the thresholds of building, rebuilding and dropping a base; and no sweep but
# those that are asked for.
TINY = CollectionsConfig(
    auto_index_records=6,
    tail_min_records=3,
    tail_max_records=9,
    search_threads=1,
    build_threads=1,
    expiry_sweep_s=3_600,
)
START = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = st.sampled_from([f"id{number}" for number in range(12)])
# Whole numbers: squared distances are exact, and ties are common.
VECTORS = st.tuples(*[st.integers(-2, 2)] * 3)
METADATA = st.dictionaries(st.sampled_from("xyz"), st.integers(0, 3), max_size=2)
LIFETIMES_S = st.one_of(st.none(), st.none(), st.integers(0, 4))


@dataclass(frozen=True)
class Draft:
    vector: tuple[int, ...]
    metadata: dict[str, int] = field(default_factory=dict)
    expire_s: int | None = None

    def write(self, name: str, if_version: int | None = None) -> RecordWrite:
        end = None if self.expire_s is None else START + timedelta(seconds=self.expire_s)
        return RecordWrite(
            id=name, vector=to_array(self.vector), metadata=self.metadata, if_version=if_version, expire_time=end
        )


@dataclass(frozen=True)
class Expected:
    draft: Draft
    version: int
    key: int


DRAFTS = st.builds(Draft, VECTORS, METADATA, LIFETIMES_S)


def to_array(vector: tuple[int, ...]) -> NDArray[np.float32]:
    return np.array(vector, dtype=np.float32)


class CollectionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.parent = Path(tempfile.mkdtemp())
        self.crashes = 0
        self.now_s = 0
        self.stored: dict[str, Expected] = {}
        self.sequence = 0
        self.requests: dict[str, tuple[Callable[[], WriteOutcome], WriteOutcome]] = {}
        self.catalogue = self.open()

    def open(self) -> CollectionCatalogue:
        folder = self.parent / str(self.crashes)
        return CollectionCatalogue(folder, TINY, clock=lambda: START + timedelta(seconds=self.now_s))

    @initialize()
    def create(self) -> None:
        fields = (FieldDefinition("x", FieldType.INTEGER),)
        self.catalogue.create(CollectionSpec(name="c", space="s", dimension=3, metric=Metric.L2, fields=fields))

    @property
    def collection(self) -> Collection:
        return self.catalogue.get("c")

    @property
    def oracle(self) -> Mapping[str, Expected]:
        """What must be seen now."""
        return {
            name: one
            for name, one in self.stored.items()
            if one.draft.expire_s is None or one.draft.expire_s > self.now_s
        }

    def put(self, name: str, draft: Draft) -> int:
        self.sequence += 1
        self.stored[name] = Expected(draft, version=self.sequence, key=self.sequence)
        return self.sequence

    def version_of(self, name: str) -> int:
        return self.oracle[name].version if name in self.oracle else 0

    @rule(batch=st.dictionaries(NAMES, DRAFTS, max_size=6), with_id=st.booleans())
    def upsert(self, batch: dict[str, Draft], with_id: bool) -> None:
        drafts = {name: self.ending(draft) for name, draft in batch.items()}
        request_id = f"r{len(self.requests)}" if with_id else ""

        def run() -> WriteOutcome:
            writes = [draft.write(name) for name, draft in drafts.items()]
            return self.collection.upsert(writes, space="s", request_id=request_id)

        outcome = run()
        assert list(outcome.versions) == [self.put(name, draft) for name, draft in drafts.items()]
        self.remember(request_id, run, outcome)

    def ending(self, draft: Draft) -> Draft:
        """A lifetime counts from now; of 0, the record has expired when it is written."""
        return draft if draft.expire_s is None else replace(draft, expire_s=self.now_s + draft.expire_s)

    def remember(self, request_id: str, run: Callable[[], WriteOutcome], outcome: WriteOutcome) -> None:
        assert outcome.sequence == self.sequence
        if request_id:
            self.requests[request_id] = run, outcome

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def repeat_a_request(self, data: st.DataObject) -> None:
        run, outcome = self.requests[data.draw(st.sampled_from(sorted(self.requests)))]
        again = run()
        assert (again.sequence, list(again.versions)) == (outcome.sequence, list(outcome.versions))
        assert {i: str(e) for i, e in again.errors.items()} == {i: str(e) for i, e in outcome.errors.items()}

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def use_a_request_id_for_something_else(self, data: st.DataObject) -> None:
        with pytest.raises(InvalidInput, match="request_id"):
            self.collection.delete(["other"], request_id=data.draw(st.sampled_from(sorted(self.requests))))

    @rule(name=NAMES, other=NAMES, draft=DRAFTS, lag=st.integers(0, 1), partial=st.booleans())
    def upsert_conditionally(self, name: str, other: str, draft: Draft, lag: int, partial: bool) -> None:
        draft = self.ending(draft)
        batch = [draft.write(name, if_version=self.version_of(name) + lag)]
        if other != name:
            batch.append(draft.write(other))
        if lag and not partial:
            with pytest.raises(VersionMismatch) as caught:
                self.collection.upsert(batch, space="s")
            assert set(caught.value.item_errors) == {0}
            return
        outcome = self.collection.upsert(batch, space="s", allow_partial=partial)
        expected = [0 if lag else self.put(name, draft), *(self.put(write.id, draft) for write in batch[1:])]
        assert list(outcome.versions) == expected
        assert set(outcome.errors) == ({0} if lag else set())

    @rule(name=NAMES, draft=DRAFTS, partial=st.booleans(), with_id=st.booleans())
    def upsert_with_a_bad_one(self, name: str, draft: Draft, partial: bool, with_id: bool) -> None:
        draft = self.ending(draft)
        request_id = f"r{len(self.requests)}" if with_id else ""
        batch = [RecordWrite(id="bad", vector=np.ones(2, np.float32)), draft.write(name)]

        def run() -> WriteOutcome:
            return self.collection.upsert(batch, space="s", allow_partial=partial, request_id=request_id)

        if not partial:
            with pytest.raises(DimensionMismatch):
                run()
            return
        outcome = run()
        assert tuple(outcome.versions) == (0, self.put(name, draft))
        self.remember(request_id, run, outcome)

    @rule(names=st.lists(NAMES, max_size=5), with_id=st.booleans())
    def delete(self, names: list[str], with_id: bool) -> None:
        request_id = f"r{len(self.requests)}" if with_id else ""

        def run() -> WriteOutcome:
            return self.collection.delete(names, request_id=request_id)

        outcome = run()
        gone = {}
        for name in dict.fromkeys(names):
            if name in self.oracle:
                self.sequence += 1
                gone[name] = self.sequence
                del self.stored[name]
        assert list(outcome.versions) == [gone.get(name, 0) for name in names]
        self.remember(request_id, run, outcome)

    @rule(name=NAMES, metadata=METADATA, lag=st.sampled_from([None, 0, 1]), with_id=st.booleans())
    def update_metadata(self, name: str, metadata: dict[str, int], lag: int | None, with_id: bool) -> None:
        request_id = f"r{len(self.requests)}" if with_id else ""
        if_version = None if lag is None else self.version_of(name) + lag

        def run() -> WriteOutcome:
            return self.collection.update_metadata(name, metadata, if_version=if_version, request_id=request_id)

        if name not in self.oracle or lag:
            with pytest.raises(RecordNotFound if name not in self.oracle else VersionMismatch):
                run()
            return
        outcome = run()
        self.sequence += 1
        old = self.stored[name]
        self.stored[name] = replace(old, version=self.sequence, draft=replace(old.draft, metadata=metadata))
        assert tuple(outcome.versions) == (self.sequence,)
        self.remember(request_id, run, outcome)

    @rule(query=VECTORS, k=st.integers(1, 14), exact=st.booleans(), with_records=st.booleans())
    def search(self, query: tuple[int, ...], k: int, exact: bool, with_records: bool) -> None:
        (hits,) = self.collection.search(
            to_array(query)[None], space="s", k=k, exact=exact, with_records=with_records, min_sequence=self.sequence
        )
        oracle = self.oracle
        scores = {
            name: -float(sum((a - b) ** 2 for a, b in zip(query, one.draft.vector, strict=True)))
            for name, one in oracle.items()
        }
        assert hits.scores.tolist() == sorted(scores.values(), reverse=True)[:k]
        assert [scores[name] for name in hits.ids] == hits.scores.tolist()
        assert hits.versions.tolist() == [oracle[name].version for name in hits.ids]
        assert len(set(hits.ids)) == len(hits.ids)
        if hits.records is not None:
            assert [dict(record.metadata) for record in hits.records] == [oracle[n].draft.metadata for n in hits.ids]

    @rule()
    def ask_for_what_was_never_written(self) -> None:
        for ask in (
            lambda: self.collection.get(["id0"], min_sequence=self.sequence + 1),
            lambda: self.collection.search(np.ones((1, 3), np.float32), space="s", k=1, min_sequence=self.sequence + 1),
        ):
            with pytest.raises(VersionMismatch, match="min_sequence"):
                ask()

    @rule(query=VECTORS, k=st.integers(1, 14), least=st.integers(0, 3), with_records=st.booleans())
    def search_filtered(self, query: tuple[int, ...], k: int, least: int, with_records: bool) -> None:
        where = Range(field="x", greater_or_equal=least)
        (hits,) = self.collection.search(to_array(query)[None], space="s", k=k, where=where, with_records=with_records)
        scores = {
            name: -float(sum((a - b) ** 2 for a, b in zip(query, one.draft.vector, strict=True)))
            for name, one in self.oracle.items()
            if one.draft.metadata.get("x", -1) >= least
        }
        assert hits.scores.tolist() == sorted(scores.values(), reverse=True)[:k]
        assert [scores[name] for name in hits.ids] == hits.scores.tolist()
        assert len(set(hits.ids)) == len(hits.ids)
        page = self.collection.list_matching(where, page_size=100)
        assert [record.id for record in page.records] == sorted(scores)

    @rule(value=st.integers(0, 3))
    def delete_matching(self, value: int) -> None:
        outcome = self.collection.delete_matching(OneOf("x", (value,)))
        gone = [name for name, one in self.oracle.items() if one.draft.metadata.get("x") == value]
        for name in gone:
            del self.stored[name]
        assert list(outcome.versions) == list(range(self.sequence + 1, self.sequence + len(gone) + 1))
        self.sequence += len(gone)

    @rule(name=st.sampled_from("yz"))
    def declare_or_drop(self, name: str) -> None:
        fields = self.collection.definition.spec.fields
        toggled = FieldDefinition(name, FieldType.INTEGER)
        changed = [one for one in fields if one != toggled] if toggled in fields else [*fields, toggled]
        self.catalogue.update("c", fields=changed)
        if toggled not in fields:
            with_it = [one for one in self.oracle.values() if name in one.draft.metadata]
            assert self.collection.count(Exists(name)) == len(with_it)

    @rule(page_size=st.integers(1, 5))
    def list_all(self, page_size: int) -> None:
        found: list[str] = []
        while page := self.collection.list(page_size=page_size, after_id=found[-1] if found else ""):
            for record in page:
                expected = self.oracle[record.id]
                assert tuple(record.vector.tolist()) == expected.draft.vector
                assert (dict(record.metadata), record.version) == (expected.draft.metadata, expected.version)
            found += [record.id for record in page]
        assert found == sorted(self.oracle)

    @rule(names=st.lists(NAMES, max_size=5))
    def get(self, names: list[str]) -> None:
        found = self.collection.get(names, min_sequence=self.sequence)
        assert [record and record.version for record in found] == [self.version_of(name) or None for name in names]

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds: int) -> None:
        self.now_s += seconds

    @rule(limit=st.integers(1, 4))
    def sweep(self, limit: int) -> None:
        expired = sorted(self.stored.keys() - self.oracle.keys(), key=lambda name: self.stored[name].key)[:limit]
        assert self.collection.sweep(limit) == len(expired)
        for name in expired:
            self.sequence += 1
            del self.stored[name]

    @rule()
    def settle(self) -> None:
        assert self.collection.settle(30)

    @rule()
    def restart(self) -> None:
        self.catalogue.close()
        self.catalogue = self.open()

    @rule()
    def crash(self) -> None:
        """Goes on with the files as a killed process would leave them, whatever an index build was doing."""
        abandoned, folder = self.catalogue, self.parent / str(self.crashes)
        self.crashes += 1
        # A build moves and removes files; of those that vanish while they are copied, the copy is as good without.
        copy_as_it_is(folder, self.parent / str(self.crashes))
        abandoned.close()
        self.catalogue = self.open()
        assert not self.catalogue.damaged()

    @invariant()
    def counts_agree(self) -> None:
        if self.catalogue.list():
            info = self.collection.info()
            assert (info.record_count, info.sequence) == (len(self.oracle), self.sequence)

    def teardown(self) -> None:
        self.catalogue.close()
        shutil.rmtree(self.parent)


def copy_as_it_is(folder: Path, target: Path) -> None:
    target.mkdir()
    for entry in folder.iterdir():
        try:
            if entry.is_dir():
                copy_as_it_is(entry, target / entry.name)
            elif not entry.name.endswith("-shm"):
                shutil.copyfile(entry, target / entry.name)
        except FileNotFoundError:
            continue


SHORT = settings(
    max_examples=12,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
LONG = settings(SHORT, max_examples=200, stateful_step_count=80, derandomize=False, print_blob=True)


def test_a_collection_behaves_as_a_dictionary() -> None:
    run_state_machine_as_test(CollectionMachine, settings=SHORT)


@pytest.mark.slow
def test_a_collection_behaves_as_a_dictionary_at_length() -> None:
    run_state_machine_as_test(CollectionMachine, settings=LONG)

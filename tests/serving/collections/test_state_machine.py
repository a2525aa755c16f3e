"""A collection driven beside a plain dictionary, through restarts and index builds at any moment."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from numpy.typing import NDArray

from serving.collections.catalogue import CollectionCatalogue
from serving.collections.collection import Collection
from serving.collections.config import CollectionsConfig
from serving.collections.filters.conditions import Exists, OneOf, Range
from serving.collections.types import CollectionSpec, FieldDefinition, FieldType, Metric, RecordWrite
from serving.errors import DimensionMismatch, RecordNotFound, VersionMismatch

# So few records that every example crosses the thresholds of building, rebuilding and dropping a base.
TINY = CollectionsConfig(
    auto_index_records=6, tail_min_records=3, tail_max_records=9, search_threads=1, build_threads=1
)
NAMES = st.sampled_from([f"id{number}" for number in range(12)])
# Whole numbers: squared distances are exact, and ties are common.
VECTORS = st.tuples(*[st.integers(-2, 2)] * 3)
METADATA = st.dictionaries(st.sampled_from("xyz"), st.integers(0, 3), max_size=2)


@dataclass
class Expected:
    vector: tuple[int, ...]
    metadata: dict[str, int]
    version: int


def to_array(vector: tuple[int, ...]) -> NDArray[np.float32]:
    return np.array(vector, dtype=np.float32)


class CollectionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.oracle: dict[str, Expected] = {}
        self.sequence = 0
        self.catalogue = CollectionCatalogue(self.folder, TINY)

    @initialize()
    def create(self) -> None:
        fields = (FieldDefinition("x", FieldType.INTEGER),)
        self.catalogue.create(CollectionSpec(name="c", space="s", dimension=3, metric=Metric.L2, fields=fields))

    @property
    def collection(self) -> Collection:
        return self.catalogue.get("c")

    @rule(batch=st.dictionaries(NAMES, st.tuples(VECTORS, METADATA), max_size=6))
    def upsert(self, batch: dict[str, tuple[tuple[int, ...], dict[str, int]]]) -> None:
        writes = [RecordWrite(id=n, vector=to_array(v), metadata=m) for n, (v, m) in batch.items()]
        outcome = self.collection.upsert(writes, space="s")
        for name, (vector, metadata) in batch.items():
            self.sequence += 1
            self.oracle[name] = Expected(vector, metadata, self.sequence)
        assert outcome.sequence == self.sequence
        assert list(outcome.versions) == [self.oracle[name].version for name in batch]

    @rule(name=NAMES, other=NAMES, vector=VECTORS, lag=st.integers(0, 1))
    def upsert_conditionally(self, name: str, other: str, vector: tuple[int, ...], lag: int) -> None:
        current = self.oracle[name].version if name in self.oracle else 0
        batch = [RecordWrite(id=name, vector=to_array(vector), if_version=current + lag)]
        if other != name:
            batch.append(RecordWrite(id=other, vector=to_array(vector)))
        if lag:
            with pytest.raises(VersionMismatch):
                self.collection.upsert(batch, space="s")
            return
        self.collection.upsert(batch, space="s")
        for write in batch:
            self.sequence += 1
            self.oracle[write.id] = Expected(vector, {}, self.sequence)

    @rule(name=NAMES, vector=VECTORS, partial=st.booleans())
    def upsert_with_a_bad_one(self, name: str, vector: tuple[int, ...], partial: bool) -> None:
        batch = [RecordWrite(id="bad", vector=np.ones(2, np.float32)), RecordWrite(id=name, vector=to_array(vector))]
        if not partial:
            with pytest.raises(DimensionMismatch):
                self.collection.upsert(batch, space="s")
            return
        outcome = self.collection.upsert(batch, space="s", allow_partial=True)
        self.sequence += 1
        self.oracle[name] = Expected(vector, {}, self.sequence)
        assert tuple(outcome.versions) == (0, self.sequence)

    @rule(names=st.lists(NAMES, max_size=5, unique=True))
    def delete(self, names: list[str]) -> None:
        outcome = self.collection.delete(names)
        for name, version in zip(names, outcome.versions, strict=True):
            if self.oracle.pop(name, None) is not None:
                self.sequence += 1
                assert version == self.sequence
            else:
                assert version == 0

    @rule(name=NAMES, metadata=METADATA)
    def update_metadata(self, name: str, metadata: dict[str, int]) -> None:
        if name not in self.oracle:
            with pytest.raises(RecordNotFound):
                self.collection.update_metadata(name, metadata)
            return
        self.collection.update_metadata(name, metadata)
        self.sequence += 1
        self.oracle[name] = Expected(self.oracle[name].vector, metadata, self.sequence)

    @rule(query=VECTORS, k=st.integers(1, 14), exact=st.booleans(), with_records=st.booleans())
    def search(self, query: tuple[int, ...], k: int, exact: bool, with_records: bool) -> None:
        (hits,) = self.collection.search(
            to_array(query)[None], space="s", k=k, exact=exact, with_records=with_records, min_sequence=self.sequence
        )
        scores = {
            name: -float(sum((a - b) ** 2 for a, b in zip(query, expected.vector, strict=True)))
            for name, expected in self.oracle.items()
        }
        assert hits.scores.tolist() == sorted(scores.values(), reverse=True)[:k]
        assert [scores[name] for name in hits.ids] == hits.scores.tolist()
        assert hits.versions.tolist() == [self.oracle[name].version for name in hits.ids]
        assert len(set(hits.ids)) == len(hits.ids)
        if hits.records is not None:
            assert [dict(record.metadata) for record in hits.records] == [self.oracle[n].metadata for n in hits.ids]

    @rule(query=VECTORS, k=st.integers(1, 14), least=st.integers(0, 3), with_records=st.booleans())
    def search_filtered(self, query: tuple[int, ...], k: int, least: int, with_records: bool) -> None:
        where = Range(field="x", greater_or_equal=least)
        (hits,) = self.collection.search(to_array(query)[None], space="s", k=k, where=where, with_records=with_records)
        scores = {
            name: -float(sum((a - b) ** 2 for a, b in zip(query, expected.vector, strict=True)))
            for name, expected in self.oracle.items()
            if expected.metadata.get("x", -1) >= least
        }
        assert hits.scores.tolist() == sorted(scores.values(), reverse=True)[:k]
        assert [scores[name] for name in hits.ids] == hits.scores.tolist()
        assert len(set(hits.ids)) == len(hits.ids)
        page = self.collection.list_matching(where, page_size=100)
        assert [record.id for record in page.records] == sorted(scores)

    @rule(value=st.integers(0, 3))
    def delete_matching(self, value: int) -> None:
        outcome = self.collection.delete_matching(OneOf("x", (value,)))
        gone = [name for name, expected in self.oracle.items() if expected.metadata.get("x") == value]
        for name in gone:
            del self.oracle[name]
        assert list(outcome.versions) == list(range(self.sequence + 1, self.sequence + len(gone) + 1))
        self.sequence += len(gone)

    @rule(name=st.sampled_from("yz"))
    def declare_or_drop(self, name: str) -> None:
        fields = self.collection.definition.spec.fields
        field = FieldDefinition(name, FieldType.INTEGER)
        changed = [one for one in fields if one != field] if field in fields else [*fields, field]
        self.catalogue.update("c", fields=changed)
        if field not in fields:
            with_it = [one for one in self.oracle.values() if name in one.metadata]
            assert self.collection.count(Exists(name)) == len(with_it)

    @rule(page_size=st.integers(1, 5))
    def list_all(self, page_size: int) -> None:
        found: list[str] = []
        while page := self.collection.list(page_size=page_size, after_id=found[-1] if found else ""):
            for record in page:
                expected = self.oracle[record.id]
                assert tuple(record.vector.tolist()) == expected.vector
                assert (dict(record.metadata), record.version) == (expected.metadata, expected.version)
            found += [record.id for record in page]
        assert found == sorted(self.oracle)

    @rule()
    def settle(self) -> None:
        assert self.collection.settle(30)

    @rule()
    def restart(self) -> None:
        self.catalogue.close()
        self.catalogue = CollectionCatalogue(self.folder, TINY)

    @invariant()
    def counts_agree(self) -> None:
        if self.catalogue.list():
            info = self.collection.info()
            assert (info.record_count, info.sequence) == (len(self.oracle), self.sequence)

    def teardown(self) -> None:
        self.catalogue.close()
        shutil.rmtree(self.folder)


SHORT = settings(
    max_examples=12,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
LONG = settings(SHORT, max_examples=100, stateful_step_count=60, derandomize=False)


def test_a_collection_behaves_as_a_dictionary() -> None:
    run_state_machine_as_test(CollectionMachine, settings=SHORT)


@pytest.mark.slow
def test_a_collection_behaves_as_a_dictionary_at_length() -> None:
    run_state_machine_as_test(CollectionMachine, settings=LONG)

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from serving.collections.index.view import Found, IndexView
from serving.collections.record_reader import RecordReader
from serving.collections.search import hits_with_records
from serving.collections.types import Record


class FakeReader:
    """A record whose key 1 is overwritten as key 2 between the search and the read, as often as told."""

    def __init__(self, overwritten_times: int) -> None:
        self.overwritten_times = overwritten_times
        self.reads = 0

    def by_keys(self, keys: Sequence[int]) -> dict[int, Record]:
        self.reads += 1
        gone = {1} if self.reads <= self.overwritten_times else set()
        return {
            key: Record(id=f"id{key}", version=key + 10, vector=np.zeros(1, np.float32), metadata={})
            for key in keys
            if key not in gone
        }


def run(reader: FakeReader) -> tuple[list[str], list[float], list[int]]:
    found = Found(
        ids=["id1", "id5"],
        scores=np.array([0.9, 0.5], dtype=np.float32),
        keys=np.array([1, 5]),
        versions=np.array([1, 5]),
    )
    view = cast("IndexView", None)
    (hits,) = hits_with_records(lambda: view, lambda _: [found], cast("RecordReader", reader))
    assert hits.records is not None
    assert [record.id for record in hits.records] == list(hits.ids)
    return list(hits.ids), hits.scores.tolist(), hits.versions.tolist()


def test_versions_are_those_of_the_records_that_were_read() -> None:
    assert run(FakeReader(0)) == (["id1", "id5"], [np.float32(0.9), 0.5], [11, 15])


def test_a_record_overwritten_before_it_was_read_causes_a_new_search() -> None:
    reader = FakeReader(1)
    assert run(reader)[0] == ["id1", "id5"]
    assert reader.reads == 2


def test_a_record_that_keeps_vanishing_is_left_out() -> None:
    reader = FakeReader(99)
    assert run(reader) == (["id5"], [0.5], [15])
    assert reader.reads == 3

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest

from serving.collections.collection import Collection
from serving.collections.types import GeoPoint, MetadataValue, Metric, RecordWrite
from serving.errors import InvalidInput, VersionMismatch

Write = Callable[..., RecordWrite]
SPACE = "space-a"
METADATA: dict[str, MetadataValue] = {
    "text": "ä\0\n",
    "integer": -(2**63),
    "double": 0.1,
    "infinite": float("inf"),
    "yes": True,
    "when": datetime(1890, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    "tags": ("a", ""),
    "place": GeoPoint(52.5, -13.4),
}


def test_a_record_comes_back_as_it_was_written_also_after_a_restart(
    make_collection: Callable[..., Collection], reopen: Callable[..., Collection], write: Write
) -> None:
    vector = np.random.default_rng(1).standard_normal(8).astype(np.float32)
    written = make_collection(metric=Metric.L2).upsert(
        [write("ä", vector, metadata=METADATA, fingerprint="fp")], space=SPACE
    )
    (record,) = reopen().get(["ä"])
    assert record is not None
    assert record.vector.tobytes() == vector.tobytes()
    assert record.vector.dtype == np.float32
    assert dict(record.metadata) == METADATA
    assert (record.id, record.version, record.fingerprint) == ("ä", written.versions[0], "fp")


def test_a_cosine_collection_returns_the_unit_vector(notes: Collection, write: Write) -> None:
    notes.upsert([write("a", [3, 4, 0, 0, 0, 0, 0, 0])], space=SPACE)
    (record,) = notes.get(["a"])
    assert record is not None
    np.testing.assert_allclose(record.vector[:3], np.array([0.6, 0.8, 0]), rtol=1e-6)


def test_get_answers_in_the_order_asked_with_none_for_the_missing(notes: Collection, write: Write) -> None:
    notes.upsert([write("a"), write("b")], space=SPACE)
    assert [record and record.id for record in notes.get(["b", "x", "a", "b"])] == ["b", None, "a", "b"]
    assert notes.get([]) == []


def test_lists_are_in_bytewise_order_and_pages_neither_repeat_nor_skip(notes: Collection, write: Write) -> None:
    names = ["b", "a", "Z", "ä", "a-", "a0", "\U0001f600", "\uffee", "aa", "10", "9"]
    notes.upsert([write(name) for name in names], space=SPACE)
    expected = sorted(names, key=lambda name: name.encode())
    found: list[str] = []
    while page := notes.list(page_size=4, after_id=found[-1] if found else ""):
        assert len(page) <= 4
        found += [record.id for record in page]
    assert found == expected


def test_a_page_may_start_after_an_id_that_is_gone(notes: Collection, write: Write) -> None:
    notes.upsert([write(name) for name in "abc"], space=SPACE)
    notes.delete(["b"])
    assert [record.id for record in notes.list(page_size=9, after_id="b")] == ["c"]


@pytest.mark.parametrize("page_size", [0, -1])
def test_a_page_holds_at_least_one(notes: Collection, page_size: int) -> None:
    with pytest.raises(InvalidInput, match="page_size"):
        notes.list(page_size=page_size)


def test_a_sequence_that_was_returned_may_be_asked_for_and_no_later_one(notes: Collection, write: Write) -> None:
    reached = notes.upsert([write("a")], space=SPACE).sequence
    assert notes.get(["a"], min_sequence=reached)[0] is not None
    query = np.ones((1, 8), dtype=np.float32)
    assert list(notes.search(query, space=SPACE, k=1, min_sequence=reached)[0].ids) == ["a"]
    with pytest.raises(VersionMismatch, match="collection is at 1"):
        notes.get(["a"], min_sequence=reached + 1)
    with pytest.raises(VersionMismatch):
        notes.search(query, space=SPACE, k=1, min_sequence=reached + 1)

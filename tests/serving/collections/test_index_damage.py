"""Damage to a base between its start, when it is only mapped, and the scrub."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import numpy as np
import pytest
from numpy.typing import NDArray

from serving.collections.catalogue import CollectionCatalogue
from serving.collections.collection import Collection
from serving.collections.config import CollectionsConfig
from serving.collections.index.integrity import VectorGuard, block_checksums, rows_a_block
from serving.collections.record_codec import RecordRow, record_checksum
from serving.collections.scrub import Pace
from serving.collections.types import IndexKind, RecordWrite
from serving.errors import Corrupted, Unavailable

Make = Callable[..., Collection]
Reopen = Callable[..., Collection]
SPACE = "space-a"
FAST = Pace(2**50, threading.Event())
# Builds nothing by itself, and scrubs only when a test does.
STILL = CollectionsConfig(
    auto_index_records=300, tail_min_records=10_000, search_threads=1, build_threads=1, scrub_bytes_per_s=0
)
QUERY = np.ones((1, 8), dtype=np.float32)


def matrix(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, 8)).astype(np.float32)


def answers(collection: Collection, *, exact: bool = False) -> list[list[str]]:
    return [list(hits.ids) for hits in collection.search(matrix(10, seed=9), space=SPACE, k=5, exact=exact)]


def flip(path: Path, *places: int) -> None:
    content = bytearray(path.read_bytes())
    for place in places:
        content[place] ^= 4
    path.write_bytes(content)


@pytest.fixture
def expected(make_collection: Make) -> list[list[str]]:
    """Writes 3,000 records, their base and a tail, closes, and returns the exact answers."""
    collection = make_collection(STILL)
    vectors = matrix(3_000)
    collection.upsert([RecordWrite(id=f"r{i}", vector=v) for i, v in enumerate(vectors)], space=SPACE)
    assert collection.settle(30)
    collection.upsert([RecordWrite(id="late", vector=np.ones(8, dtype=np.float32))], space=SPACE)
    found = answers(collection, exact=True)
    assert collection.info().indexed_count == 3_000
    collection.close()
    return found


@pytest.fixture
def base(expected: list[list[str]], tmp_path: Path) -> Path:
    (folder,) = (tmp_path / "data").glob("collections/notes.*/index/base-*")
    return folder


def until_gone(base: Path) -> None:
    deadline = time.monotonic() + 60
    while base.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def until_answered(collection: Collection) -> list[list[str]]:
    for _ in range(1_000):
        try:
            return answers(collection, exact=True)
        except Unavailable:
            time.sleep(0.01)
    raise AssertionError("never in service again")


@pytest.mark.parametrize("exact", [False, True])
def test_a_damaged_vector_is_unavailable_until_the_record_was_read_anew(
    expected: list[list[str]], base: Path, reopen: Reopen, exact: bool
) -> None:
    flip(base / "vectors.npy", *range(131, 96_000, 32))
    collection = reopen(STILL)
    assert collection.info().indexed_count == 3_000
    with pytest.raises(Unavailable, match="read anew from the record"):
        answers(collection, exact=exact)
    assert until_answered(collection) == expected
    until_gone(base)
    assert collection.settle(30)
    assert collection.info().indexed_count == 3_001
    assert answers(collection) == expected


def test_damage_that_no_search_meets_is_found_by_the_scrub(
    expected: list[list[str]], base: Path, reopen: Reopen
) -> None:
    flip(base / "vectors.npy", 128 + 32 * 2_999)
    collection = reopen(STILL)
    collection.scrub(FAST)
    assert until_answered(collection) == expected
    until_gone(base)
    assert collection.settle(30)
    assert collection.info().indexed_count == 3_001


def test_a_damaged_index_is_dropped_and_its_rows_are_compared_until_it_is_rebuilt(
    expected: list[list[str]], base: Path, reopen: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The last bytes are codes: no link, no header.
    flip(base / "index.faiss", -100)
    collection = reopen(STILL)
    assert collection.info().index_kind is IndexKind.HNSW
    rebuilt = threading.Event()
    monkeypatch.setattr(collection._index._rebuilder, "consider", lambda *_, **__: rebuilt.set())
    collection.scrub(FAST)
    assert rebuilt.is_set()
    assert (collection.info().index_kind, collection.info().index.build_progress) == (IndexKind.EXACT, None)
    assert "exact, until it is built: HNSW32,fp16" in collection.info().index.reason
    assert answers(collection) == expected
    monkeypatch.undo()
    collection._index._rebuilder.consider(0, anew=True)
    assert collection.settle(30)
    assert (collection.info().index_kind, collection.info().indexed_count) == (IndexKind.HNSW, 3_001)
    assert answers(collection) == expected


def test_a_scrub_that_finds_nothing_changes_nothing(expected: list[list[str]], base: Path, reopen: Reopen) -> None:
    collection = reopen(STILL)
    guard = collection._index.view.base.guard  # type: ignore[union-attr]  # there is a base
    assert guard is not None
    assert not guard.is_whole
    collection.scrub(FAST)
    assert guard.is_whole
    assert collection.is_healthy
    assert (collection.info().indexed_count, answers(collection)) == (3_000, expected)
    assert base.exists()


def test_the_scrub_of_a_running_server_needs_no_asking(
    expected: list[list[str]], base: Path, open_catalogue: Callable[..., CollectionCatalogue]
) -> None:
    flip(base / "vectors.npy", 128 + 32 * 2_999)
    fast = CollectionsConfig(
        auto_index_records=300, tail_min_records=10_000, search_threads=1, build_threads=1, scrub_bytes_per_s=2**40
    )
    collection = open_catalogue(fast).get("notes")
    until_gone(base)
    assert until_answered(collection) == expected


def test_a_damaged_record_is_found_by_the_scrub_and_mended_by_writing_it(
    expected: list[list[str]], tmp_path: Path, open_catalogue: Callable[..., CollectionCatalogue]
) -> None:
    (path,) = (tmp_path / "data").glob("collections/notes.*/records.sqlite")
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE records SET metadata = x'00' WHERE key = 8")
    connection.close()
    catalogue = open_catalogue(STILL)
    heard: list[tuple[str, bool]] = []
    catalogue.add_listener(lambda name, healthy: heard.append((name, healthy)))
    collection = catalogue.get("notes")
    assert answers(collection) == expected
    collection.scrub(FAST)
    with pytest.raises(Corrupted, match="the first is 'r7'"):
        answers(collection)
    assert collection.count() == 3_001
    collection.upsert([RecordWrite(id="r7", vector=matrix(3_000)[7])], space=SPACE)
    assert answers(collection, exact=True) == expected
    assert heard == [("notes", False), ("notes", True)]


def test_a_base_of_another_life_of_the_record_is_dropped(
    expected: list[list[str]], base: Path, tmp_path: Path, reopen: Reopen
) -> None:
    (path,) = (tmp_path / "data").glob("collections/notes.*/records.sqlite")
    connection = apsw.Connection(str(path))
    # As if an older copy of the database had been put back and written on: same keys, other vectors, right checksums.
    columns = "key, id, version, vector, metadata, fingerprint, checksum, expire_us"
    row = RecordRow._make(next(iter(connection.execute(f"SELECT {columns} FROM records WHERE key = 5"))))
    other = row._replace(vector=np.ones(8, dtype="<f4").tobytes())
    connection.execute(
        "UPDATE records SET vector = ?, checksum = ? WHERE key = 5", (other.vector, record_checksum(other))
    )
    connection.close()
    collection = reopen(STILL)
    collection.scrub(FAST)
    (hits,) = collection.search(QUERY, space=SPACE, k=2, exact=True)
    assert sorted(hits.ids) == ["late", "r4"]
    assert collection.settle(30)
    assert not base.exists()


def test_a_base_of_the_first_format_is_built_anew(expected: list[list[str]], base: Path, reopen: Reopen) -> None:
    manifest = base / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 2', '"format": 1'))
    collection = reopen(STILL)
    assert answers(collection, exact=True) == expected
    assert collection.settle(30)
    assert collection.info().indexed_count == 3_001


def test_a_guard_reads_a_block_once_and_no_other() -> None:
    vectors = matrix(rows_a_block(8) * 3 + 1)
    guard = VectorGuard(vectors, block_checksums(vectors))
    guard.check(np.array([0]))
    vectors[0] += 1  # Read already.
    vectors[-1] += 1
    guard.check(np.array([1, rows_a_block(8)]))
    guard.check_range(0, rows_a_block(8) * 3)
    told: list[bool] = []
    guard.on_damage = lambda: told.append(True)
    for _ in range(2):
        with pytest.raises(Unavailable):
            guard.check(np.array([len(vectors) - 1]))
    with pytest.raises(Unavailable):
        guard.check(np.array([0]))
    assert told == [True]

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.collections.catalogue import CollectionCatalogue
from serving.collections.collection import Collection
from serving.collections.config import CollectionsConfig
from serving.collections.index import draft
from serving.collections.index.ann.build import build_ann
from serving.collections.types import IndexKind, RecordWrite

Make = Callable[..., Collection]
Reopen = Callable[..., Collection]
SPACE = "space-a"
# Neither builds a base for the 308 records of these tests nor drops one that is there.
QUIET = CollectionsConfig(auto_index_records=400)


def matrix(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, 8)).astype(np.float32)


def fill(collection: Collection, vectors: NDArray[np.float32], first: int = 0) -> None:
    collection.upsert([RecordWrite(id=f"r{first + i}", vector=v) for i, v in enumerate(vectors)], space=SPACE)


def bases(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "data").glob("collections/notes.*/index/*"))


def answers(collection: Collection, *, exact: bool = False) -> list[list[str]]:
    return [list(hits.ids) for hits in collection.search(matrix(10, seed=9), space=SPACE, k=5, exact=exact)]


def test_auto_is_exact_below_its_threshold_and_hnsw_from_it_on(make_collection: Make) -> None:
    collection = make_collection()
    fill(collection, matrix(299))
    assert collection.settle(30)
    assert collection.info().index_kind is IndexKind.EXACT
    fill(collection, matrix(1, seed=1), first=299)
    assert collection.settle(30)
    assert (collection.info().index_kind, collection.info().indexed_count) == (IndexKind.HNSW, 300)


def test_a_collection_told_to_be_hnsw_has_its_base_earlier(make_collection: Make) -> None:
    collection = make_collection(index=IndexKind.HNSW)
    fill(collection, matrix(100))
    assert collection.settle(30)
    assert collection.info().index_kind is IndexKind.HNSW


def test_a_collection_told_to_be_exact_never_builds(make_collection: Make) -> None:
    collection = make_collection(index=IndexKind.EXACT)
    fill(collection, matrix(500))
    assert collection.settle(30)
    assert (collection.info().index_kind, collection.info().indexed_count) == (IndexKind.EXACT, 0)


def test_records_overwritten_again_and_again_do_not_fill_the_memory(make_collection: Make) -> None:
    collection = make_collection(index=IndexKind.EXACT)
    for turn in range(30):
        fill(collection, matrix(200, seed=turn))
    assert collection._index._live.tail_row_count <= 200 + 1_024 + 200
    assert (collection.count(), collection.info().sequence) == (200, 6_000)
    (hits,) = collection.search(matrix(200, seed=29)[:1], space=SPACE, k=1)
    assert (list(hits.ids), hits.versions.tolist()) == (["r0"], [5_801])


def test_a_long_tail_is_folded_into_a_new_base_and_the_old_one_removed(make_collection: Make, tmp_path: Path) -> None:
    collection = make_collection()
    fill(collection, matrix(300))
    assert collection.settle(30)
    (first,) = bases(tmp_path)
    fill(collection, matrix(99, seed=1), first=300)
    assert collection.settle(30)
    assert collection.info().indexed_count == 300
    fill(collection, matrix(1, seed=2), first=399)
    assert collection.settle(30)
    assert collection.info().indexed_count == 400
    (second,) = bases(tmp_path)
    assert second.name > first.name


def test_many_dead_records_in_the_base_cause_a_new_one(make_collection: Make) -> None:
    collection = make_collection()
    fill(collection, matrix(300))
    assert collection.settle(30)
    collection.delete([f"r{i}" for i in range(61)])
    assert collection.settle(30)
    info = collection.info()
    assert (info.indexed_count, info.record_count) == (239, 239)
    assert answers(collection) == answers(collection, exact=True)


def test_a_shrunken_collection_is_exact_again(make_collection: Make, tmp_path: Path, reopen: Reopen) -> None:
    collection = make_collection()
    fill(collection, matrix(300))
    assert collection.settle(30)
    collection.update_metadata("r299", {"x": 1})
    collection.delete([f"r{i}" for i in range(160)])
    assert collection.settle(30)
    info = collection.info()
    assert (info.index_kind, info.indexed_count, info.record_count) == (IndexKind.EXACT, 0, 140)
    assert bases(tmp_path) == []
    before = answers(collection)
    (hits,) = collection.search(matrix(300)[299:], space=SPACE, k=1)
    assert (list(hits.ids), hits.versions.tolist()) == (["r299"], [301])
    assert answers(reopen()) == before


def test_writes_during_a_build_are_in_the_tail_of_the_new_base(
    make_collection: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = make_collection()
    build = build_ann
    # While the graph is built: a new record, an overwritten one, a deleted one, changed metadata.
    during: list[Callable[[], object]] = [
        lambda: fill(collection, matrix(3, seed=5), first=300),
        lambda: fill(collection, matrix(1, seed=6), first=7),
        lambda: collection.delete(["r8"]),
        lambda: collection.update_metadata("r9", {"x": 1}),
    ]

    def build_beside_writes(*args: object, **kwargs: object) -> object:
        while during:
            during.pop(0)()
        return build(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(draft, "build_ann", build_beside_writes)
    fill(collection, matrix(300))
    assert collection.settle(30)

    info = collection.info()
    assert (info.indexed_count, info.record_count, info.sequence) == (298, 302, 306)
    assert answers(collection) == answers(collection, exact=True)
    (new,) = collection.search(matrix(1, seed=6), space=SPACE, k=1)
    assert (list(new.ids), new.versions.tolist()) == (["r7"], [304])
    (old,) = collection.search(matrix(300)[9:10], space=SPACE, k=1)
    assert (list(old.ids), old.versions.tolist()) == (["r9"], [306])
    (gone,) = collection.search(matrix(300)[8:9], space=SPACE, k=302)
    assert "r8" not in gone.ids


class TestRestart:
    @pytest.fixture
    def written(self, make_collection: Make) -> Collection:
        """300 records in the base, a tail, deletions and new metadata after it."""
        collection = make_collection()
        fill(collection, matrix(300))
        assert collection.settle(30)
        fill(collection, matrix(20, seed=1), first=290)
        collection.delete(["r5", "r309"])
        collection.update_metadata("r6", {"x": 1})
        collection.update_metadata("r300", {"x": 2})
        return collection

    def check_same(self, before: Collection, reopen: Reopen, *, indexed: int) -> Collection:
        expected, info = answers(before, exact=True), before.info()
        after = reopen(QUIET)
        found = after.info()
        assert (found.record_count, found.sequence) == (info.record_count, info.sequence)
        assert found.indexed_count == indexed
        assert answers(after) == answers(after, exact=True) == expected
        for name, version in (("r6", 323), ("r300", 324)):
            (record,) = after.get([name])
            assert record is not None
            (hits,) = after.search(record.vector[None], space=SPACE, k=1)
            assert (list(hits.ids), hits.versions.tolist()) == ([name], [version])
        return after

    def test_the_base_is_loaded_and_brought_up_to_date(self, written: Collection, reopen: Reopen) -> None:
        after = self.check_same(written, reopen, indexed=289)
        assert after.info().index_kind is IndexKind.HNSW

    @pytest.mark.parametrize(
        "name",
        ["vector_checksums.npy", "sq_norms.npy", "keys.npy", "versions.npy", "id_blob.npy", "id_ends.npy"],
    )
    def test_one_flipped_bit_in_any_small_file_and_the_record_answers(
        self, written: Collection, reopen: Reopen, tmp_path: Path, name: str
    ) -> None:
        (base,) = bases(tmp_path)
        content = bytearray((base / name).read_bytes())
        content[len(content) * 2 // 3] ^= 4
        (base / name).write_bytes(content)
        self.check_same(written, reopen, indexed=0)

    @pytest.mark.parametrize(
        "damage", ["no folder", "no file", "short file", "no manifest", "other collection", "future"]
    )
    def test_a_base_that_cannot_be_trusted_is_not_used(
        self, written: Collection, reopen: Reopen, tmp_path: Path, damage: str
    ) -> None:
        (base,) = bases(tmp_path)
        manifest = json.loads((base / "manifest.json").read_text())
        match damage:
            case "no folder":
                shutil.rmtree(base)
            case "no file":
                (base / "index.faiss").unlink()
            case "short file":
                (base / "index.faiss").write_bytes((base / "index.faiss").read_bytes()[:-1])
            case "no manifest":
                (base / "manifest.json").write_text("{")
            case "other collection":
                (base / "manifest.json").write_text(json.dumps({**manifest, "uid": "other"}))
            case "future":
                (base / "manifest.json").write_text(json.dumps({**manifest, "sequence": 10**6}))
        self.check_same(written, reopen, indexed=0)

    def test_a_lost_base_is_built_again(self, written: Collection, reopen: Reopen, tmp_path: Path) -> None:
        (base,) = bases(tmp_path)
        shutil.rmtree(base)
        after = reopen()
        assert after.settle(30)
        assert after.info().indexed_count == after.info().record_count == 308

    def test_an_unfinished_draft_is_removed(self, written: Collection, reopen: Reopen, tmp_path: Path) -> None:
        (base,) = bases(tmp_path)
        shutil.copytree(base, base.parent / "draft")
        self.check_same(written, reopen, indexed=289)
        assert bases(tmp_path) == [base]


def test_closing_gives_up_a_running_build(
    open_catalogue: Callable[..., CollectionCatalogue], make_collection: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def build_until_stopped(*_: object, progress: Callable[[float], bool], **__: object) -> None:
        while progress(0.5):
            asked.append(True)

    monkeypatch.setattr(draft, "build_ann", build_until_stopped)
    collection = make_collection()
    fill(collection, matrix(300))
    while not asked:
        pass
    collection.close()
    assert collection.settle(0)


def test_a_failed_build_leaves_search_complete_and_is_tried_again_later(
    make_collection: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> bool:
        raise OSError(28, "No space left on device")

    collection = make_collection()
    with monkeypatch.context() as patch:
        patch.setattr(draft, "build_ann", refuse)
        fill(collection, matrix(300))
        assert collection.settle(30)
        fill(collection, matrix(50, seed=1), first=300)
        assert collection.settle(30)
        assert [record.message for record in caplog.records].count("index build failed") == 1
        assert collection.info().indexed_count == 0
        assert answers(collection) == answers(collection, exact=True)
    fill(collection, matrix(50, seed=2), first=350)
    assert collection.settle(30)
    assert collection.info().indexed_count == 400

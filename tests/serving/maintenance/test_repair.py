"""Damaged folders are mended: nothing is lost without being named and allowed, and what was there before is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

from serving.collections.catalogue import CollectionCatalogue
from serving.collections.types import Record
from serving.maintenance.check import check_folder
from serving.maintenance.findings import Severity
from serving.maintenance.repair import RepairReport, repair_folder

Place = Callable[[str], Path]
RECORDS = "collections/alpha.*/records.sqlite"
PAGE_BYTES = 16_384


def repair(folder: Path, *, drop_damaged: bool = False) -> RepairReport:
    return repair_folder(folder, drop_damaged=drop_damaged, tick=lambda _what, _share: None)


def change(path: Path, statement: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(statement)
    assert connection.changes() > 0
    connection.close()


def all_records(folder: Path, name: str) -> dict[str, Record]:
    catalogue = CollectionCatalogue(folder)
    try:
        found = catalogue.get(name).list(page_size=1_000)
        hits = catalogue.get(name).search(np.stack([one.vector for one in found]), space="s", k=1)
        assert [hit.ids[0] for hit in hits] == [one.id for one in found]
        return {one.id: one for one in found}
    finally:
        catalogue.close()


def same(one: Record, other: Record) -> bool:
    fields = ("id", "version", "metadata", "source", "source_type", "fingerprint")
    return all(getattr(one, field) == getattr(other, field) for field in fields) and bool(
        np.array_equal(one.vector, other.vector)
    )


def check_nothing_is_lost(
    folder: Path, sound_folder: Path, name: str = "alpha", without: frozenset[str] = frozenset()
) -> None:
    copy = folder.parent / "original"
    expected = all_records(Path(shutil.copytree(sound_folder, copy)), name)
    shutil.rmtree(copy)
    found = all_records(folder, name)
    assert found.keys() == expected.keys() - without
    assert all(same(found[identifier], expected[identifier]) for identifier in found)


def pages_of(path: Path, table: str) -> list[int]:
    """Returns the leaf pages of a table or index, by walking its tree."""
    data = path.read_bytes()
    connection = apsw.Connection(str(path))
    ((root,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchall()
    connection.close()
    leaves, waiting = [], [int(root)]  # type: ignore[arg-type]  # an integer, by SQLite's own definition
    while waiting:
        number = waiting.pop()
        page = data[(number - 1) * PAGE_BYTES : number * PAGE_BYTES]
        if page[0] in (10, 13):
            leaves.append(number)
            continue
        count = int.from_bytes(page[3:5], "big")
        cells = [int.from_bytes(page[12 + 2 * i : 14 + 2 * i], "big") for i in range(count)]
        waiting += [int.from_bytes(page[cell : cell + 4], "big") for cell in cells]
        waiting.append(int.from_bytes(page[8:12], "big"))
    return sorted(leaves)


def ruin(path: Path, page: int) -> None:
    data = bytearray(path.read_bytes())
    data[(page - 1) * PAGE_BYTES : page * PAGE_BYTES] = b"\xa5" * PAGE_BYTES
    path.write_bytes(data)


def test_a_sound_folder_is_left_alone(folder: Path) -> None:
    report = repair(folder)
    assert (report.actions, report.refusals) == ([], [])
    assert report.after.is_sound
    assert not (folder / "quarantine").exists()


def test_a_damaged_index_is_built_anew(folder: Path, place: Place, sound_folder: Path) -> None:
    vectors = place("collections/alpha.*/index/base-*/vectors.npy")
    data = bytearray(vectors.read_bytes())
    data[-3] ^= 1
    vectors.write_bytes(data)
    report = repair(folder)
    assert report.actions == ["collection 'alpha': its index was removed, to be built anew"]
    assert report.after.is_sound
    check_nothing_is_lost(folder, sound_folder)


@pytest.mark.parametrize("table", ["sqlite_autoindex_records_1", "records_by_version", "requests"])
def test_a_page_that_holds_no_record_costs_nothing(folder: Path, place: Place, sound_folder: Path, table: str) -> None:
    ruin(place(RECORDS), pages_of(place(RECORDS), table)[0])
    assert not check_folder(folder).is_sound
    report = repair(folder)
    assert report.actions == ["collection 'alpha': its database was rebuilt; nothing was lost"]
    assert report.after.is_sound
    check_nothing_is_lost(folder, sound_folder)
    assert len(list(folder.glob("quarantine/*/alpha.*/records.sqlite"))) == 1


def test_records_on_a_page_that_cannot_be_read_are_named_and_taken_out_only_where_allowed(
    folder: Path, place: Place, sound_folder: Path
) -> None:
    path = place(RECORDS)
    leaves = pages_of(path, "records")
    assert len(leaves) > 2
    ruin(path, leaves[1])
    before = path.read_bytes()
    report = repair(folder)
    assert report.actions == []
    assert "damaged would be taken out: 'alpha-" in report.refusals[0]
    assert path.read_bytes() == before
    assert not (folder / "quarantine").exists()

    report = repair(folder, drop_damaged=True)
    assert report.refusals == []
    assert report.after.is_sound
    (kept,) = folder.glob("quarantine/*/*.jsonl")
    lost = [json.loads(line) for line in kept.read_text().splitlines()]
    assert {one["problem"] for one in lost} == {"the page it lies on cannot be read"}
    assert all(one["id"].startswith("alpha-") for one in lost)
    assert f"{len(lost)} damaged were taken out: 'alpha-" in report.actions[0]
    check_nothing_is_lost(folder, sound_folder, without=frozenset(one["id"] for one in lost))


def test_records_that_no_index_knows_any_more_are_not_lost_without_a_word(
    folder: Path, place: Place, sound_folder: Path
) -> None:
    path = place(RECORDS)
    leaves = pages_of(path, "records")
    for page in (
        leaves[1],
        *pages_of(path, "records_by_version"),
        *pages_of(path, "sqlite_autoindex_records_1"),
    ):
        ruin(path, page)
    assert "no index says which they are" in repair(folder).refusals[0]
    report = repair(folder, drop_damaged=True)
    assert "no index says which they are" in report.actions[0]
    assert report.after.is_sound
    # What lies before the page and what lies behind it is there.
    expected = all_records(Path(shutil.copytree(sound_folder, folder.parent / "original")), "alpha")
    found = all_records(folder, "alpha")
    assert all(same(found[name], expected[name]) for name in found)
    assert {"alpha-0003", "alpha-0149"} <= set(found)
    assert 0 < len(expected) - len(found) < len(expected) / 2


def test_a_record_that_fails_its_checksum_is_kept_aside_as_it_is(
    folder: Path, place: Place, sound_folder: Path
) -> None:
    change(place(RECORDS), "UPDATE records SET vector = zeroblob(256) WHERE key = 9")
    report = repair(folder)
    assert report.refusals == [
        "collection 'alpha': 1 damaged would be taken out: 'alpha-0008' (it does not match its checksum); "
        "repair with --drop-damaged"
    ]
    assert not report.after.is_sound
    report = repair(folder, drop_damaged=True)
    assert "'alpha-0008' (it does not match its checksum)" in report.actions[0]
    assert report.after.is_sound
    (kept,) = folder.glob("quarantine/*/*.jsonl")
    (lost,) = [json.loads(line) for line in kept.read_text().splitlines()]
    assert (lost["id"], lost["key"]) == ("alpha-0008", 9)
    assert set(lost) >= {"vector", "metadata", "version", "checksum"}
    check_nothing_is_lost(folder, sound_folder, without=frozenset({"alpha-0008"}))


def test_a_damaged_source_is_taken_out_and_its_record_stays(folder: Path, place: Place) -> None:
    change(place(RECORDS), "UPDATE sources SET content = x'00' WHERE key = 9")
    assert "its source does not match its checksum" in repair(folder).refusals[0]
    report = repair(folder, drop_damaged=True)
    assert report.after.is_sound
    found = all_records(folder, "alpha")
    assert found["alpha-0008"].source is None
    assert found["alpha-0009"].source is not None


def test_of_two_records_of_one_id_the_newer_one_stays(folder: Path, place: Place, sound_folder: Path) -> None:
    path = place(RECORDS)
    connection = apsw.Connection(str(path))
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("UPDATE sqlite_schema SET sql = replace(sql, ' UNIQUE', '') WHERE name = 'records'")
    connection.execute("DELETE FROM sqlite_schema WHERE name = 'sqlite_autoindex_records_1'")
    connection.execute("PRAGMA writable_schema=RESET")
    from serving.collections.record_codec import RecordRow, record_checksum
    from serving.collections.record_reader import RECORD_COLUMNS

    row: Any = connection.execute(f"SELECT {RECORD_COLUMNS} FROM records AS r WHERE key = 10").fetchone()
    old = RecordRow._make(row)._replace(key=1, version=1)
    old = old._replace(checksum=record_checksum(old))
    connection.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", tuple(old))
    connection.close()
    report = repair(folder, drop_damaged=True)
    assert "'alpha-0009' (a newer record has its id)" in report.actions[0]
    assert report.after.is_sound
    check_nothing_is_lost(folder, sound_folder)


def test_a_sequence_that_was_set_back_is_found_again(folder: Path, place: Place, sound_folder: Path) -> None:
    change(place(RECORDS), "UPDATE collection SET sequence = 5")
    report = repair(folder)
    assert report.after.is_sound
    check_nothing_is_lost(folder, sound_folder)
    catalogue = CollectionCatalogue(folder)
    assert catalogue.get("alpha").info().sequence == 154
    catalogue.close()


@pytest.mark.parametrize("how", ["gone", "ruined", "an index"])
def test_a_lost_catalogue_is_made_anew_from_the_folders(
    folder: Path, place: Place, sound_folder: Path, how: str
) -> None:
    path = place("catalogue.sqlite")
    if how == "gone":
        path.unlink()
    elif how == "ruined":
        path.write_bytes(b"\xa5" * len(path.read_bytes()))
    else:
        ruin(path, pages_of(path, "collections_by_name")[0])
    report = repair(folder)
    assert "catalogue: made anew from" in report.actions[0]
    assert "with 2 collections (alpha, beta)" in report.actions[0]
    assert report.after.is_sound
    check_nothing_is_lost(folder, sound_folder)
    check_nothing_is_lost(folder, sound_folder, "beta")


def test_swapped_folders_are_put_right(folder: Path, place: Place, sound_folder: Path) -> None:
    alpha, beta = place("collections/alpha.*"), place("collections/beta.*")
    alpha.rename(folder / "moving")
    beta.rename(alpha)
    (folder / "moving").rename(beta)
    report = repair(folder)
    assert len(report.actions) == 2
    assert report.after.is_sound
    check_nothing_is_lost(folder, sound_folder)
    check_nothing_is_lost(folder, sound_folder, "beta")


def test_a_database_whose_first_page_is_gone_is_left_alone(folder: Path, place: Place) -> None:
    ruin(place(RECORDS), 1)
    before = place(RECORDS).read_bytes()
    report = repair(folder, drop_damaged=True)
    assert "restore a snapshot" in report.refusals[0]
    assert not report.after.is_sound
    assert place(RECORDS).read_bytes() == before
    assert all_records(folder, "beta")


def test_damaged_snapshots_and_jobs_are_set_aside(folder: Path, place: Place) -> None:
    (folder / "snapshots" / "alpha-copy" / "seal.json").write_text("{}")
    place("jobs.sqlite").write_bytes(b"\xa5" * 20_000)
    assert repair(folder).refusals == ["snapshot 'alpha-copy' is damaged; repair with --drop-damaged"]
    report = repair(folder, drop_damaged=True)
    assert report.actions == ["snapshot 'alpha-copy': taken out, because it is damaged"]
    assert report.after.is_sound
    assert len(list(folder.glob("quarantine/*/alpha-copy"))) == 1
    assert len(list(folder.glob("quarantine/*/jobs.sqlite"))) == 1


class _StopError(Exception):
    pass


def test_a_repair_that_is_cut_off_between_its_last_steps_is_ended_by_the_next(
    folder: Path, place: Place, sound_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ruin(place(RECORDS), pages_of(place(RECORDS), "records_by_version")[0])
    name = place("collections/alpha.*").name
    rename = Path.rename

    def rename_until(self: Path, target: Path) -> Path:
        if self.name == f"{name}.repaired":
            raise _StopError
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename_until)
    with pytest.raises(_StopError):
        repair(folder)
    monkeypatch.undo()
    assert not (folder / "collections" / name).exists()
    assert any(one.severity is Severity.DAMAGE for one in check_folder(folder).findings)
    report = repair(folder)
    assert "put into its place what an earlier repair had rebuilt" in report.actions[0]
    assert report.after.is_sound
    check_nothing_is_lost(folder, sound_folder)

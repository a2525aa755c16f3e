"""Real files are damaged in every way; the check names what is damaged, and changes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import apsw
import numpy as np
import pytest

from serving.collections.index.integrity import block_checksums
from serving.collections.lock import FolderLock
from serving.errors import FailedPrecondition, InvalidInput
from serving.maintenance.check import check_folder
from serving.maintenance.findings import Severity

Place = Callable[[str], Path]
RECORDS = "collections/alpha.*/records.sqlite"


def flip(path: Path, at: float | int = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[at if isinstance(at, int) else int(len(data) * at)] ^= 0xFF
    path.write_bytes(data)


def change(path: Path, statement: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(statement)
    assert connection.changes() > 0
    connection.close()


def damage_found(folder: Path) -> list[tuple[str, str, str]]:
    found = check_folder(folder).findings
    return [(one.part, one.subject, one.problem) for one in found if one.severity is not Severity.NOTE]


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal", "LOCK"))
    }


def test_a_sound_folder_is_sound_and_stays_as_it_is(folder: Path) -> None:
    before = contents(folder)
    heard: list[str] = []
    report = check_folder(folder, tick=lambda what, share: heard.append(what) if 0 <= share <= 1 else None)
    assert report.is_sound
    assert report.findings == []
    assert (report.collection_count, report.record_count, report.snapshot_count) == (2, 298, 1)
    assert {"collection alpha", "collection alpha: sources", "index of beta", "snapshot alpha-copy"} <= set(heard)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("statement", "part", "problem"),
    [
        ("UPDATE records SET vector = zeroblob(256) WHERE key = 9", "record", "'alpha-0008' does not match"),
        ("UPDATE records SET metadata = x'7b7d' WHERE key = 9", "record", "'alpha-0008' does not match"),
        ("UPDATE records SET version = 1000 WHERE key = 9", "record", "'alpha-0008' does not match"),
        ("UPDATE sources SET content = x'00' WHERE key = 9", "source", "source of the record with key 9"),
        ("DELETE FROM records WHERE key = 9", "source", "source of key 9 belongs to no record"),
        ("UPDATE collection SET sequence = 5", "record", "the collection's sequence is 5"),
        ("UPDATE collection SET space = 'other'", "collection", "its database says"),
        ("UPDATE collection SET uid = 'other'", "collection", "its database says"),
    ],
)
def test_damaged_rows_are_named(folder: Path, place: Place, statement: str, part: str, problem: str) -> None:
    change(place(RECORDS), statement)
    found = [one for one in damage_found(folder) if one[0] == part]
    assert found
    assert found[0][1] == "alpha"
    assert problem in found[0][2]


def test_an_id_that_is_there_twice_is_named(folder: Path, place: Place) -> None:
    connection = apsw.Connection(str(place(RECORDS)))
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("UPDATE sqlite_schema SET sql = replace(sql, ' UNIQUE', '') WHERE name = 'records'")
    connection.execute("DELETE FROM sqlite_schema WHERE name = 'sqlite_autoindex_records_1'")
    connection.execute("PRAGMA writable_schema=RESET")
    connection.close()
    change(place(RECORDS), "UPDATE records SET id = (SELECT id FROM records WHERE key = 10) WHERE key = 9")
    problems = " ".join(problem for _, _, problem in damage_found(folder))
    assert "2 records have the id 'alpha-0009'" in problems


@pytest.mark.parametrize("pattern", ["catalogue.sqlite", "jobs.sqlite", RECORDS])
@pytest.mark.parametrize("at", [3, 30, 0.0, 0.3, 0.6, 0.9])
def test_no_flipped_byte_of_a_database_that_matters_passes(
    folder: Path, place: Place, pattern: str, at: float | int
) -> None:
    # Bytes that hold nothing may be anything: the flip goes where something is stored.
    data = place(pattern).read_bytes()
    offset = at if isinstance(at, int) else next(i for i in range(int(len(data) * at), len(data)) if data[i])
    flip(place(pattern), offset)
    if pattern == RECORDS:
        assert damage_found(folder)
    else:
        check_folder(folder)  # Free text in these has no checksum; it must not end the check.


@pytest.mark.parametrize("name", ["vectors.npy", "keys.npy", "versions.npy", "id_blob.npy", "index.faiss"])
def test_a_flipped_byte_of_the_index_is_found(folder: Path, place: Place, name: str) -> None:
    flip(place(f"collections/beta.*/index/base-*/{name}"))
    ((part, subject, problem),) = damage_found(folder)
    assert (part, subject) == ("index", "beta")
    # Whatever lies beneath: an index whose links lead nowhere is refused before its checksum is read.
    assert f"{name} does not match its checksum" in problem or (name == "index.faiss" and "cannot be used" in problem)


def test_an_index_of_other_vectors_is_found_though_its_checksums_hold(folder: Path, place: Place) -> None:
    import json
    import zlib

    base = place("collections/beta.*/index/base-*")
    vectors = np.load(base / "vectors.npy")
    vectors[-1, -1] += 1
    np.save(base / "vectors.npy", vectors)
    np.save(base / "vector_checksums.npy", block_checksums(vectors))
    manifest = json.loads((base / "manifest.json").read_text())
    for name in ("vectors.npy", "vector_checksums.npy"):
        manifest["files"][name]["crc32"] = zlib.crc32((base / name).read_bytes())
    (base / "manifest.json").write_text(json.dumps(manifest))
    assert [problem for _, _, problem in damage_found(folder)] == [
        f"{base.name} has another vector for record 'beta-0149'"
    ]


@pytest.mark.parametrize("name", ["records.sqlite", "manifest.json", "seal.json"])
def test_a_damaged_snapshot_is_named(folder: Path, place: Place, name: str) -> None:
    flip(place(f"snapshots/alpha-copy/{name}"))
    ((part, subject, _),) = damage_found(folder)
    assert (part, subject) == ("snapshot", "alpha-copy")


@pytest.mark.parametrize(
    ("pattern", "part"),
    [
        ("catalogue.sqlite", "catalogue"),
        (RECORDS, "collection"),
        ("collections/beta.*/index/base-*/keys.npy", "index"),
        ("collections/beta.*/definition.json", ""),
        ("snapshots/alpha-copy/records.sqlite", "snapshot"),
    ],
)
def test_a_file_that_is_gone_or_cut_short_is_named(folder: Path, place: Place, pattern: str, part: str) -> None:
    path = place(pattern)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert [one[0] for one in damage_found(folder)][:1] == [part or "definition"]
    path.unlink()
    assert [one[0] for one in damage_found(folder)][:1] == ([part] if part else [])


def test_a_folder_that_is_gone_and_folders_that_were_swapped_are_named(folder: Path, place: Place) -> None:
    alpha, beta = place("collections/alpha.*"), place("collections/beta.*")
    alpha.rename(folder / "moving")
    assert damage_found(folder) == [("collection", "alpha", f"its folder {alpha.name} is missing")]
    beta.rename(alpha)
    (folder / "moving").rename(beta)
    assert damage_found(folder) == [
        ("collection", "alpha", f"its database lies in {beta.name}, not in {alpha.name}"),
        ("collection", "beta", f"its database lies in {alpha.name}, not in {beta.name}"),
    ]


def test_what_belongs_to_nothing_is_noted_but_no_damage(folder: Path) -> None:
    (folder / "collections" / "stray").mkdir()
    (folder / "snapshots" / ".draft-1").mkdir()
    (folder / "letter.txt").touch()
    report = check_folder(folder)
    assert report.is_sound
    assert [(one.part, one.subject) for one in report.findings] == [
        ("folder", "collections/stray"),
        ("snapshot", ".draft-1"),
        ("folder", "letter.txt"),
    ]


def test_only_a_data_folder_that_nobody_holds_is_checked(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is no data folder"):
        check_folder(tmp_path)
    lock = FolderLock(folder)
    with pytest.raises(FailedPrecondition, match="is in use by the server with process id"):
        check_folder(folder)
    lock.release()


def test_a_newer_format_is_noted_and_left_alone(folder: Path, place: Place) -> None:
    connection = apsw.Connection(str(place(RECORDS)))
    connection.execute("PRAGMA user_version=99")
    connection.close()
    (finding,) = check_folder(folder).findings
    assert finding.severity is Severity.NOTE
    assert "upgrade diptych" in finding.problem
    shutil.rmtree(folder)

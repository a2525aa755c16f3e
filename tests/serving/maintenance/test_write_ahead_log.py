"""A flipped byte in a log that a crash left: SQLite takes it for the log's end, the check does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import apsw
import numpy as np
import pytest

from serving.collections.catalogue import CollectionCatalogue
from serving.collections.types import CollectionSpec, RecordWrite
from serving.maintenance.check import check_folder
from serving.maintenance.repair import repair_folder
from serving.maintenance.write_ahead_log import log_fault

FRAME_BYTES = 24 + 16_384


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder as a killed server leaves it: with a log of several commits."""
    catalogue = CollectionCatalogue(tmp_path / "live")
    catalogue.create(CollectionSpec(name="notes", space="", dimension=8))
    for number in range(5):
        vector = np.full(8, number + 1, np.float32)
        catalogue.get("notes").upsert([RecordWrite(id=f"r{number}", vector=vector)], space="")
    shutil.copytree(tmp_path / "live", tmp_path / "data")
    catalogue.close()
    return tmp_path / "data"


@pytest.fixture
def log(folder: Path) -> Path:
    (path,) = folder.glob("collections/notes.*/records.sqlite-wal")
    assert path.stat().st_size > 32 + 5 * FRAME_BYTES
    return path


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def records_in(path: Path) -> int:
    connection = apsw.Connection(str(path.with_name("records.sqlite")))
    ((count,),) = connection.execute("SELECT count(*) FROM records").fetchall()
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.close()
    assert isinstance(count, int)
    return count


def test_a_log_that_a_crash_left_is_sound_and_is_read(folder: Path, log: Path) -> None:
    before = log.read_bytes()
    report = check_folder(folder)
    assert report.is_sound
    assert report.record_count == 5
    assert log.read_bytes() == before


def test_a_log_that_ends_in_the_middle_of_a_frame_is_no_damage(log: Path) -> None:
    log.write_bytes(log.read_bytes()[: -FRAME_BYTES // 2])
    assert log_fault(log) == ""
    log.write_bytes(b"")
    assert log_fault(log) == ""
    log.unlink()
    assert log_fault(log) == ""


@pytest.mark.parametrize("place", [3, 26, 5_000])
def test_a_flipped_byte_within_the_log_is_named_though_sqlite_says_nothing(folder: Path, log: Path, place: int) -> None:
    count = (log.stat().st_size - 32) // FRAME_BYTES
    flip(log, 32 + (count - 3) * FRAME_BYTES + place)
    expected = f"frame {count - 2} of {count} of records.sqlite-wal is damaged: what was written from there on is lost"
    found = [one.problem for one in check_folder(folder).findings if one.part == "log"]
    assert found == [expected]
    report = repair_folder(folder, drop_damaged=False, tick=lambda _what, _share: None)
    assert expected in report.refusals[0]
    (kept,) = folder.glob("quarantine/*/*records.sqlite-wal")
    assert log_fault(kept)
    assert report.after.is_sound
    assert records_in(log) < 5


@pytest.mark.parametrize("place", [0, 13, 17, 27])
def test_a_flipped_byte_of_its_header_is_named(folder: Path, log: Path, place: int) -> None:
    flip(log, place)
    assert log_fault(log) == "the header of records.sqlite-wal is damaged: everything in it is lost"
    assert not check_folder(folder).is_sound

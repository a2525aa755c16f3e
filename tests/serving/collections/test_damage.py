from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw
import numpy as np
import pytest

from serving.collections.collection import Collection
from serving.collections.types import RecordWrite
from serving.errors import Corrupted

Reopen = Callable[..., Collection]
Write = Callable[..., RecordWrite]
SPACE = "space-a"
QUERY = np.ones((1, 8), dtype=np.float32)


def tamper(tmp_path: Path, statement: str) -> None:
    (path,) = (tmp_path / "data").glob("collections/notes.*/records.sqlite")
    connection = apsw.Connection(str(path))
    connection.execute(statement)
    assert connection.changes() == 1
    connection.close()


@pytest.mark.parametrize(
    "change",
    [
        "vector = zeroblob(32)",
        "vector = zeroblob(28)",
        "metadata = CAST('{\"x\":2}' AS BLOB)",
        "metadata = x'ff'",
        "fingerprint = x'00'",
        "version = version + 100",
        "id = x'ff'",
    ],
)
def test_a_record_that_is_not_what_was_written_is_never_served(
    notes: Collection, write: Write, tmp_path: Path, change: str, reopen: Reopen
) -> None:
    notes.upsert([write("a", metadata={"x": 1}), write("b")], space=SPACE)
    notes.close()
    tamper(tmp_path, f"UPDATE records SET {change} WHERE key = 1")
    damaged = reopen()

    if not change.startswith("id"):
        with pytest.raises(Corrupted, match="'a'"):
            damaged.get(["a"])
    with pytest.raises(Corrupted):
        damaged.list(page_size=5)
    with pytest.raises(Corrupted, match="1 records"):
        damaged.search(QUERY, space=SPACE, k=1)
    assert damaged.get(["b"])[0] is not None


def test_writing_a_damaged_record_anew_repairs_it(
    notes: Collection, write: Write, tmp_path: Path, reopen: Reopen
) -> None:
    notes.upsert([write("a"), write("b"), write("c")], space=SPACE)
    notes.close()
    tamper(tmp_path, "UPDATE records SET vector = zeroblob(32) WHERE key = 1")
    tamper(tmp_path, "UPDATE records SET vector = zeroblob(32) WHERE key = 2")
    damaged = reopen()
    assert damaged.count() == 3
    damaged.upsert([write("a")], space=SPACE)
    with pytest.raises(Corrupted, match="'b'"):
        damaged.search(QUERY, space=SPACE, k=3)
    damaged.delete(["b"])
    assert sorted(damaged.search(QUERY, space=SPACE, k=3)[0].ids) == ["a", "c"]


def test_a_damaged_source_is_never_served(
    make_collection: Callable[..., Collection], write: Write, tmp_path: Path, reopen: Reopen
) -> None:
    notes = make_collection(retain_source=True)
    notes.upsert([write("a", source=b"text", source_type="text/plain")], space=SPACE)
    notes.close()
    tamper(tmp_path, "UPDATE sources SET content = x'00' WHERE key = 1")
    with pytest.raises(Corrupted, match="source of record 'a'"):
        reopen().get(["a"])


def test_a_damaged_record_stops_no_other_one_from_being_indexed_later(
    notes: Collection, write: Write, tmp_path: Path, reopen: Reopen, caplog: pytest.LogCaptureFixture
) -> None:
    notes.upsert([write(f"r{i}") for i in range(299)], space=SPACE)
    notes.close()
    tamper(tmp_path, "UPDATE records SET vector = zeroblob(32) WHERE key = 1")
    damaged = reopen()
    damaged.upsert([write("r299")], space=SPACE)
    assert damaged.settle(30)
    assert "index build failed" in caplog.text
    assert damaged.info().indexed_count == 0
    damaged.upsert([write("r0"), *(write(f"s{i}") for i in range(100))], space=SPACE)
    assert damaged.settle(30)
    assert damaged.info().indexed_count == 400

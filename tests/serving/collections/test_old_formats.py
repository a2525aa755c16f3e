"""A data folder of the first format, made by the statements of then, opens with whatever diptych is tested here.

Nothing in this file may follow the code: it is what was written once.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import apsw
import numpy as np

from serving.collections.catalogue import CollectionCatalogue
from serving.collections.record_schema import RECORDS_SCHEMA
from serving.collections.types import RecordWrite

CATALOGUE_1 = """
    CREATE TABLE collections (
        uid TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('creating', 'active', 'deleting')),
        spec TEXT NOT NULL,
        create_time_us INTEGER NOT NULL,
        update_time_us INTEGER NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX collections_by_name ON collections (name) WHERE state = 'active';
    INSERT INTO collections VALUES ('0123456789abcdef', 'notes', 'active',
        '{"name": "notes", "space": "s", "dimension": 2, "metric": "l2", "encoder": "", "index": "auto",
          "display_name": "Notes", "retain_source": true}', 1700000000000000, 1700000000000000);
    PRAGMA application_id=1684620097;
    PRAGMA user_version=1;
"""
RECORDS_1 = """
    CREATE TABLE collection (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        uid TEXT NOT NULL,
        space TEXT NOT NULL,
        dimension INTEGER NOT NULL,
        metric TEXT NOT NULL,
        sequence INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE records (
        key INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        version INTEGER NOT NULL,
        vector BLOB NOT NULL,
        metadata BLOB NOT NULL,
        fingerprint BLOB NOT NULL,
        checksum INTEGER NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX records_by_version ON records (version);
    CREATE TABLE sources (
        key INTEGER PRIMARY KEY,
        type BLOB NOT NULL,
        content BLOB NOT NULL,
        checksum INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE requests (
        number INTEGER PRIMARY KEY,
        request_id TEXT NOT NULL UNIQUE,
        digest BLOB NOT NULL,
        outcome TEXT NOT NULL
    ) STRICT;
    INSERT INTO collection VALUES (1, '0123456789abcdef', 's', 2, 'l2', 3);
    PRAGMA application_id=1684623939;
    PRAGMA user_version=1;
"""


def make(data: Path) -> None:
    folder = data / "collections" / "notes.0123456789abcdef"
    folder.mkdir(parents=True)
    catalogue = apsw.Connection(str(data / "catalogue.sqlite"))
    catalogue.execute("PRAGMA page_size=16384; PRAGMA journal_mode=WAL;")
    catalogue.execute(CATALOGUE_1)
    catalogue.close()
    records = apsw.Connection(str(folder / "records.sqlite"))
    records.execute("PRAGMA page_size=16384; PRAGMA journal_mode=WAL;")
    records.execute(RECORDS_1)
    for key, version, name in ((1, 1, b"a"), (2, 3, b"b")):
        row = (name, np.array([key, 2.0], "<f4").tobytes(), b'{"n":7}', b"print")
        checksum = zlib.crc32(struct.pack("<qqIIII", key, version, *map(len, row)))
        for part in row:
            checksum = zlib.crc32(part, checksum)
        statement = (
            "INSERT INTO records (key, id, version, vector, metadata, fingerprint, checksum) VALUES (?,?,?,?,?,?,?)"
        )
        records.execute(statement, (key, row[0], version, *row[1:], checksum))
    source = (b"text/plain", b"one")
    checksum = zlib.crc32(source[1], zlib.crc32(source[0], zlib.crc32(struct.pack("<qI", 1, len(source[0])))))
    records.execute("INSERT INTO sources VALUES (1, ?, ?, ?)", (*source, checksum))
    records.close()


def test_a_folder_of_the_first_format_opens_and_goes_on(tmp_path: Path) -> None:
    make(tmp_path)
    catalogue = CollectionCatalogue(tmp_path)
    assert not catalogue.damaged()
    notes = catalogue.get("notes")
    assert (notes.info().sequence, notes.info().record_count, notes.definition.spec.display_name) == (3, 2, "Notes")
    first, second = notes.get(["a", "b"])
    assert first is not None
    assert second is not None
    assert (first.version, first.metadata, first.source, first.fingerprint) == (1, {"n": 7}, b"one", "print")
    assert (second.version, second.source) == (3, None)
    np.testing.assert_array_equal(second.vector, [2, 2])
    assert notes.search(np.array([[1, 2]], np.float32), space="s", k=1)[0].ids == ["a"]
    assert notes.upsert([RecordWrite(id="c", vector=np.ones(2, np.float32))], space="s").sequence == 4
    catalogue.close()
    again = CollectionCatalogue(tmp_path)
    assert again.get("notes").count() == 3
    again.close()
    (path,) = tmp_path.glob("collections/*/records.sqlite")
    connection = apsw.Connection(str(path))
    assert connection.execute("PRAGMA user_version").fetchall() == [(RECORDS_SCHEMA.version,)]
    connection.close()

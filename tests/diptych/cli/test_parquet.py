"""`diptych collections export` and `import` as a user types them, against a real server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import diptych.cli.import_records
from diptych.cli.main import main
from diptych.cli.parquet_form import decode_metadata, encode_metadata
from diptych.client.sync import Client
from diptych.client.types import GeoPoint, MetadataValue
from tests.serving.fake_encoders import FakeEncoder
from tests.serving.running_server import RunningServer, running_server

Run = Callable[..., tuple[int, str, str]]
METADATA: dict[str, MetadataValue] = {
    "year": 2**60,
    "share": 0.5,
    "far": float("inf"),
    "good": True,
    "at": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    "where": GeoPoint(1.5, -2.5),
    "tags": ["a", "b"],
    "title": "an \u00e4pple",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server"), [FakeEncoder("words")]) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client
        for collection in client.collections():
            client.delete_collection(collection.name)


@pytest.fixture
def run(
    server: RunningServer,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Run:
    monkeypatch.setenv("DIPTYCH_SERVER", server.address)
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(diptych.cli.import_records, "BATCH", 4)

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def fill(client: Client, name: str = "notes", count: int = 10, **settings: Any) -> None:
    client.create_collection(name, dimension=4, space="s", metric="l2", display_name="Notes", **settings)
    vectors = np.random.default_rng(0).standard_normal((count, 4)).astype(np.float32)
    metadata = [METADATA | {"n": number} for number in range(count)]
    client.upsert(name, [f"r{number}" for number in range(count)], vectors=vectors, space="s", metadata=metadata)


def everything(client: Client, name: str) -> list[tuple[str, Any, bytes]]:
    found = client.records(name, with_vectors=True)
    return [(one.id, one.metadata, np.asarray(one.vector).tobytes()) for one in found]


def test_records_go_out_and_come_back_as_they_were(run: Run, client: Client, tmp_path: Path) -> None:
    fill(client)
    before = everything(client, "notes")
    file = tmp_path / "notes.parquet"
    assert run("collections", "export", "notes", file)[:2] == (
        0,
        f"wrote 10 records of 'notes' to {file} (1 files)\n",
    )
    assert run("collections", "import", "again", file)[:2] == (
        0,
        "imported 10 records into 'again', 0 rows had nothing to write\n",
    )
    assert everything(client, "again") == before
    made = client.collection("again")
    assert (made.space, made.metric, made.display_name, made.dimension) == ("s", "l2", "Notes", 4)


def test_expire_times_and_fields_go_out_and_come_back(run: Run, client: Client, tmp_path: Path) -> None:
    client.create_collection("notes", dimension=2, fields={"n": "integer"})
    end = datetime(2100, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    client.upsert("notes", ["a", "b"], vectors=np.eye(2, dtype=np.float32), expire_times=[end, None])
    assert run("collections", "export", "notes", tmp_path / "notes.parquet")[0] == 0
    assert run("collections", "import", "again", tmp_path / "notes.parquet")[0] == 0
    assert [one.expire_time for one in client.records("again")] == [end, None]
    assert client.collection("again").fields == {"n": "integer"}


def test_other_tools_read_the_columns(run: Run, client: Client, tmp_path: Path) -> None:
    fill(client)
    run("collections", "export", "notes", tmp_path / "notes.parquet")
    table = pq.read_table(tmp_path / "notes.parquet")
    assert table.schema.field("vector").type == pa.list_(pa.field("item", pa.float32(), nullable=False), 4)
    assert table.column("metadata.year").to_pylist() == [2**60] * 10
    assert table.column("metadata.at").to_pylist() == [METADATA["at"]] * 10
    assert table.column("metadata.tags").to_pylist() == [["a", "b"]] * 10
    assert table.column("metadata.good").type == pa.bool_()
    assert "metadata.where" not in table.schema.names
    words = table.schema.metadata
    assert (words[b"diptych.space"], words[b"diptych.format"]) == (b"s", b"1")
    assert json.loads(words[b"diptych.collection"])["sequence"] == 10


def test_a_folder_gets_shards(run: Run, client: Client, tmp_path: Path) -> None:
    fill(client)
    out = tmp_path / "shards"
    told = json.loads(run("collections", "export", "notes", out, "--shard-records", "4", "--json")[1])
    assert told["records"] == 10
    assert [pq.read_metadata(path).num_rows for path in sorted(out.iterdir())] == [4, 4, 2]
    assert next(path.name for path in sorted(out.iterdir())) == "records-00000.parquet"
    assert run("collections", "import", "again", out)[0] == 0
    assert everything(client, "again") == everything(client, "notes")
    assert run("collections", "export", "notes", out)[2].startswith(f"error: {out} is a folder that is not empty")


def test_an_empty_collection_goes_out_and_comes_back(run: Run, client: Client, tmp_path: Path) -> None:
    client.create_collection("notes", dimension=4)
    assert run("collections", "export", "notes", tmp_path / "a.parquet")[0] == 0
    assert run("collections", "export", "notes", tmp_path / "b")[0] == 0
    assert run("collections", "import", "again", tmp_path / "a.parquet", tmp_path / "b")[0] == 0
    assert client.count("again") == 0


def test_sources_go_out_and_may_be_embedded_anew(run: Run, client: Client, tmp_path: Path) -> None:
    client.create_collection("notes", encoder="words", retain_sources=True)
    client.upsert("notes", ["a", "b"], texts=["one", "two"])
    file = tmp_path / "notes.parquet"
    assert run("collections", "export", "notes", file, "--sources")[0] == 0
    table = pq.read_table(file)
    assert table.column("source").to_pylist() == [b"one", b"two"]
    assert table.column("source_type").to_pylist() == ["text/plain"] * 2
    assert run("collections", "import", "again", file, "--from-sources")[0] == 0
    assert [one.source for one in client.records("again", with_sources=True)] == [b"one", b"two"]
    assert everything(client, "again") == everything(client, "notes")


class _KilledError(BaseException):
    pass


def test_an_import_that_is_cut_off_goes_on_and_writes_nothing_twice(
    run: Run, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(client)
    file = tmp_path / "notes.parquet"
    run("collections", "export", "notes", file)
    send, sent = diptych.cli.import_records._send, []

    def send_and_die(client: Any, name: str, rows: Any, space: str, request_id: str) -> None:
        send(client, name, rows, space, request_id)
        sent.append(request_id)
        if len(sent) == 2:
            raise _KilledError

    monkeypatch.setattr(diptych.cli.import_records, "_send", send_and_die)
    with pytest.raises(_KilledError):
        run("collections", "import", "again", file)
    # The second batch is written and was not noted: it is sent again under its request id, and written once.
    assert client.collection("again").sequence == 8
    assert run("collections", "import", "again", file)[0] == 0
    assert sent[1] == sent[2]
    assert len(sent) == 4
    assert client.collection("again").sequence == 10
    assert everything(client, "again") == everything(client, "notes")
    # An import that has ended is begun anew.
    assert run("collections", "import", "again", file)[0] == 0
    assert client.collection("again").sequence == 20


def test_shards_of_an_embedding_job_are_imported(run: Run, client: Client, tmp_path: Path) -> None:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(1, 9, dtype=np.float16)), 4)
    table = pa.table({"id": ["a", "b"], "vector": vectors, "error": [None, "no image"]})
    pq.write_table(table.replace_schema_metadata({"diptych.space": "s"}), tmp_path / "shard-00000.parquet")
    client.create_collection("notes", dimension=4, space="s", metric="l2")
    result = run("collections", "import", "notes", tmp_path)
    assert result[:2] == (0, "imported 1 records into 'notes', 1 rows had nothing to write\n")
    ((identifier, _, vector),) = everything(client, "notes")
    assert (identifier, vector) == ("a", np.arange(1, 5, dtype=np.float32).tobytes())


def test_what_cannot_be_done_is_said(run: Run, client: Client, tmp_path: Path) -> None:
    fill(client)
    file = tmp_path / "notes.parquet"
    run("collections", "export", "notes", file)
    assert "is there already" in run("collections", "export", "notes", file)[2]
    assert "there is no collection 'nobody'" in run("collections", "export", "nobody", tmp_path / "x.parquet")[2]
    assert "there is no file" in run("collections", "import", "again", tmp_path / "nothing")[2]
    (tmp_path / "empty").mkdir()
    assert "there is no .parquet file" in run("collections", "import", "again", tmp_path / "empty")[2]
    client.create_collection("other", dimension=4, space="t")
    assert "space" in run("collections", "import", "other", file)[2]
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "lacking.parquet")
    assert "lacks the columns vector" in run("collections", "import", "other", tmp_path / "lacking.parquet")[2]
    ragged = pa.table({"id": ["a", "b"], "vector": [[1.0], [1.0, 2.0]]})
    pq.write_table(ragged, tmp_path / "ragged.parquet")
    assert "vectors of one width, not [1, 2]" in run("collections", "import", "other", tmp_path / "ragged.parquet")[2]
    pq.write_table(pa.table({"id": ["a"]}).replace_schema_metadata({"diptych.format": "9"}), tmp_path / "newer.parquet")
    assert "reads up to 1; upgrade" in run("collections", "import", "other", tmp_path / "newer.parquet")[2]


def test_a_collection_is_not_made_with_an_encoder_of_another_space(run: Run, client: Client, tmp_path: Path) -> None:
    client.create_collection("notes", encoder="words")
    client.upsert("notes", ["a"], texts=["one"])
    file = tmp_path / "notes.parquet"
    run("collections", "export", "notes", file)
    told = pq.read_table(file)
    changed = {name: value.replace(b"space-of-words", b"another-space") for name, value in told.schema.metadata.items()}
    pq.write_table(told.replace_schema_metadata(changed), file)
    assert "the server has one of space" in run("collections", "import", "again", file)[2]
    assert run("collections", "import", "again", file, "--vectors-only")[0] == 0
    assert (client.collection("again").encoder, client.collection("again").space) == ("", "another-space")


def test_metadata_loses_nothing() -> None:
    assert decode_metadata(encode_metadata(METADATA)) == METADATA
    assert [type(value) for value in decode_metadata(encode_metadata({"a": 1.0, "b": 1, "c": True})).values()] == [
        float,
        int,
        bool,
    ]
    with pytest.raises(ValueError, match="must hold JSON objects"):
        decode_metadata("[1]")

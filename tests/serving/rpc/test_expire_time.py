"""Records that expire, over the wire and by the command."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from diptych.cli.main import main
from diptych.client.errors import NotFoundError
from diptych.client.sync import Client
from diptych.v1 import collection_service_pb2 as pb
from diptych.v1 import collection_service_pb2_grpc, embedding_pb2
from tests.serving.running_server import RunningServer

LATER = datetime(2999, 1, 1, 12, 0, 0, 123_457, tzinfo=UTC)
PAST = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def notes(client: Client) -> Client:
    client.create_collection("notes", encoder="words")
    return client


def test_a_record_says_when_it_ends_to_the_microsecond_whatever_its_zone(notes: Client) -> None:
    elsewhere = LATER.astimezone(timezone(timedelta(hours=5, minutes=30)))
    notes.upsert("notes", ["a", "b"], texts=["one", "two"], expire_times=[elsewhere, None])
    found = notes.get("notes", ["a", "b"])
    assert [record and record.expire_time for record in found] == [LATER, None]
    assert [record.expire_time for record in notes.records("notes")] == [LATER, None]
    notes.update_metadata("notes", "a", {"n": 1})
    (changed,) = notes.get("notes", ["a"])
    assert changed is not None
    assert (changed.expire_time, changed.metadata) == (LATER, {"n": 1})


def test_no_call_sees_what_has_expired(notes: Client) -> None:
    notes.upsert("notes", ["gone", "here"], texts=["one", "two"], expire_times=[PAST, None])
    assert notes.get("notes", ["gone", "here"])[0] is None
    assert [record.id for record in notes.records("notes")] == ["here"]
    assert notes.count("notes") == notes.collection("notes").record_count == 1
    assert list(notes.search("notes", text="one", k=5).ids) == ["here"]
    with pytest.raises(NotFoundError, match="gone"):
        notes.search("notes", record="gone")
    with pytest.raises(NotFoundError, match="gone"):
        notes.update_metadata("notes", "gone", {})
    assert notes.delete("notes", ["gone"]).deleted_count == 0


def test_vectors_expire_as_texts_do(client: Client) -> None:
    client.create_collection("raw", dimension=2)
    client.upsert("raw", ["a", "b"], vectors=np.eye(2), expire_times=[LATER, PAST])
    assert [record.expire_time for record in client.records("raw")] == [LATER]


def test_a_time_without_a_zone_never_leaves_the_client(notes: Client) -> None:
    with pytest.raises(ValueError, match=r"expire_times\[1\].*time zone"):
        notes.upsert("notes", ["a", "b"], texts=["one", "two"], expire_times=[None, LATER.replace(tzinfo=None)])
    with pytest.raises(ValueError, match="1 expire_times for 2 ids"):
        notes.upsert("notes", ["a", "b"], texts=["one", "two"], expire_times=[None])


def test_a_time_out_of_range_is_refused_and_named(notes: Client, channel: grpc.Channel) -> None:
    stub = collection_service_pb2_grpc.CollectionServiceStub(channel)
    far = pb.RecordWrite(id="a", input=embedding_pb2.Input(text="x"), expire_time=Timestamp(seconds=10**15))
    with pytest.raises(grpc.RpcError) as caught:
        stub.UpsertRecords(pb.UpsertRecordsRequest(collection="notes", records=[far]))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "records[0].expire_time" in str(caught.value.details())


def test_the_command_writes_and_shows_when_records_end(
    notes: Client,
    server: RunningServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DIPTYCH_SERVER", server.address)
    lines = tmp_path / "lines.jsonl"
    lines.write_text(
        '{"id": "a", "text": "x", "expire_time": "2999-01-01T12:00:00.123457Z"}\n{"id": "b", "text": "y"}\n'
    )
    before = datetime.now(UTC)
    assert main(["records", "upsert", "notes", str(lines), "--expire-after-s", "3600"]) == 0
    first, second = (record.expire_time for record in notes.records("notes"))
    assert first == LATER
    assert second is not None
    assert before <= second - timedelta(hours=1) <= datetime.now(UTC)
    capsys.readouterr()
    assert main(["records", "get", "notes", "a", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["expire_time"] == {"timestamp": LATER.isoformat()}
    assert main(["records", "list", "notes"]) == 0
    assert LATER.isoformat() in capsys.readouterr().out


@pytest.mark.parametrize("text", ['"2999-01-01"', '"2999-01-01T12:00:00"', '"soon"', "7"])
def test_the_command_refuses_a_time_that_is_none(
    notes: Client,
    server: RunningServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
) -> None:
    monkeypatch.setenv("DIPTYCH_SERVER", server.address)
    lines = tmp_path / "lines.jsonl"
    lines.write_text(f'{{"id": "a", "text": "x", "expire_time": {text}}}\n')
    assert main(["records", "upsert", "notes", str(lines)]) != 0
    assert "lines.jsonl:1: expire_time" in capsys.readouterr().err
    assert notes.count("notes") == 0

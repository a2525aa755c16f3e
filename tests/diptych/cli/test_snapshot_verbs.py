"""`diptych snapshots`, `jobs`, `check` and `repair` as a user types them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

from diptych.cli.main import main
from diptych.client.sync import Client
from tests.serving.running_server import RunningServer, running_server

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningServer]:
    with running_server(tmp_path, []) as running:
        monkeypatch.setenv("DIPTYCH_SERVER", running.address)
        with Client(running.address) as client:
            client.create_collection("notes", dimension=4)
            client.upsert("notes", ["a", "b"], vectors=np.eye(2, 4, dtype=np.float32))
        yield running


def as_json(result: tuple[int, str, str]) -> Any:
    assert result[0] == 0, result
    return json.loads(result[1])


def test_a_snapshot_is_taken_downloaded_uploaded_and_restored(run: Run, server: RunningServer, tmp_path: Path) -> None:
    taken = as_json(run("snapshots", "create", "notes", "--json"))
    assert (taken["collection"], taken["record_count"], taken["sequence"]) == ("notes", 2, 2)
    assert [one["name"] for one in as_json(run("snapshots", "list", "notes", "--json"))] == [taken["name"]]
    assert taken["name"] in run("snapshots", "list")[1]
    assert as_json(run("snapshots", "get", taken["name"], "--json")) == taken
    (tmp_path / "out").mkdir()
    file = tmp_path / "out" / f"{taken['name']}.tar"
    expected = f"wrote {file}: {taken['size_bytes']} bytes, sha256 {taken['sha256']}\n"
    assert run("snapshots", "download", taken["name"], tmp_path / "out")[:2] == (0, expected)
    assert run("snapshots", "delete", taken["name"])[:2] == (0, f"deleted snapshot '{taken['name']}'\n")
    uploaded = as_json(run("snapshots", "upload", file, "--name", "copy", "--json"))
    assert (uploaded["name"], uploaded["sha256"]) == ("copy", taken["sha256"])
    assert run("snapshots", "restore", "copy", "other")[:2] == (0, "restored 'other': 2 records (sequence 2)\n")
    code, _, said = run("snapshots", "restore", "copy")
    assert (code, said) == (1, "error: there is a collection 'notes' already; delete it or choose another name\n")
    assert run("collections", "delete", "notes")[0] == 0
    assert run("snapshots", "restore", "copy")[:2] == (0, "restored 'notes': 2 records (sequence 2)\n")


def test_jobs_are_shown_and_waited_for(run: Run, server: RunningServer) -> None:
    job = as_json(run("snapshots", "create", "notes", "--no-wait", "--json"))
    assert job["kind"] == "snapshot"
    ended = as_json(run("jobs", "watch", job["name"], "--json"))
    assert (ended["state"], ended["subject"]) == ("succeeded", job["subject"])
    assert as_json(run("jobs", "get", job["name"], "--json")) == ended
    assert [one["name"] for one in as_json(run("jobs", "list", "--json"))] == [job["name"]]
    assert "succeeded" in run("jobs", "cancel", job["name"])[1]
    assert run("jobs", "get", "nobody")[::2] == (1, "error: there is no job 'nobody', or it ended long ago\n")


def test_a_folder_is_checked_and_repaired(run: Run, tmp_path: Path) -> None:
    with running_server(tmp_path, []) as running, Client(running.address) as client:
        client.create_collection("notes", dimension=4)
        client.upsert("notes", ["a", "b"], vectors=np.eye(2, 4, dtype=np.float32))
        code, _, said = run("check", tmp_path / "data")
        assert code == 1
        assert "is in use by the server with process id" in said
    data = tmp_path / "data"
    assert run("check", data)[:2] == (0, f"{data} is sound: 1 collections with 2 records, 0 snapshots\n")
    (path,) = data.glob("collections/notes.*/records.sqlite")
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE records SET vector = zeroblob(16) WHERE key = 1")
    connection.close()
    code, out, _ = run("check", data, "--json")
    found = json.loads(out)
    assert (code, found["sound"], found["findings"][0]["part"]) == (1, False, "record")
    assert "record 'a' does not match its checksum" in run("check", data)[1]
    code, out, _ = run("repair", data)
    assert code == 1
    assert "not done: collection 'notes': 1 damaged would be taken out: 'a'" in out
    code, out, _ = run("repair", data, "--drop-damaged")
    assert code == 0
    assert "collection 'notes': its database was rebuilt; 1 damaged were taken out: 'a'" in out
    assert run("check", data)[0] == 0
    assert json.loads(run("repair", data, "--json")[1])["actions"] == []
    assert run("check", tmp_path)[2].startswith(f"error: {tmp_path} is no data folder")

"""Snapshots and jobs through a real server on a real port, with the real clients."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2

from diptych import AsyncClient, Client
from diptych.client.errors import (
    AlreadyExistsError,
    ClientError,
    CorruptedError,
    InvalidArgumentError,
    NotFoundError,
    OverloadedError,
)
from diptych.client.types import Index, Snapshot
from diptych.v1 import job_service_pb2, job_service_pb2_grpc, snapshot_service_pb2, snapshot_service_pb2_grpc
from serving.snapshots.take import TakeSnapshot
from tests.serving.running_server import RunningServer

DIMENSION = 4


@pytest.fixture
def folder(server: RunningServer) -> Path:
    return server.server._config.data / "snapshots"


@pytest.fixture
def tidy(client: Client) -> Iterator[Client]:
    """The client; snapshots are gone afterwards."""
    yield client
    for snapshot in client.snapshots():
        client.delete_snapshot(snapshot.name)


def fill(client: Client, name: str = "notes", count: int = 20, start: int = 0) -> None:
    ids = [f"r{number}" for number in range(start, start + count)]
    vectors = np.random.default_rng(start).standard_normal((count, DIMENSION)).astype(np.float32)
    client.upsert(name, ids, vectors=vectors, metadata=[{"n": number} for number in range(start, start + count)])


def take(client: Client, collection: str = "notes") -> Snapshot:
    job = client.wait_for_job(client.create_snapshot(collection).name)
    return client.snapshot(job.subject)


def records_of(client: Client, collection: str) -> dict[str, tuple[int, object, bytes]]:
    found = client.records(collection, with_vectors=True)
    return {one.id: (one.version, one.metadata, b"" if one.vector is None else one.vector.tobytes()) for one in found}


def test_a_snapshot_keeps_fields_expire_times_and_the_index_asked_for(tidy: Client) -> None:
    index = Index(structure="ivf", quantiser="sq8", probes=3)
    tidy.create_collection("notes", dimension=DIMENSION, fields={"n": "integer"}, index=index)
    end = datetime(2100, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    vectors = np.eye(DIMENSION, dtype=np.float32)[:3]
    ends = [end, None, datetime(2020, 1, 1, tzinfo=UTC)]
    tidy.upsert("notes", ["a", "b", "c"], vectors=vectors, metadata=[{"n": 1}, {"n": 2}, {"n": 1}], expire_times=ends)
    snapshot = take(tidy)
    tidy.wait_for_job(tidy.restore_snapshot(snapshot.name, "other").name)
    old, new = tidy.collection("notes"), tidy.collection("other")
    assert (new.fields, new.index) == (old.fields, old.index) == ({"n": "integer"}, "ivf")
    assert {one.id: one.expire_time for one in tidy.records("other")} == {"a": end, "b": None}
    assert tidy.count("other", filter="n == 1") == 1
    assert tidy.search("other", vector=vectors[0], filter="n == 1").ids == ["a"]


def test_a_snapshot_becomes_a_collection_with_all_that_was_in_it(tidy: Client, channel: grpc.Channel) -> None:
    tidy.create_collection("notes", encoder="words", retain_sources=True, display_name="Notes")
    tidy.upsert("notes", ["a", "b"], texts=["one", "two"], metadata=[{"n": 2**60}, {"tags": ["x"]}])
    tidy.upsert("notes", ["a"], texts=["one again"])
    tidy.update_metadata("notes", "b", {"n": 1})
    tidy.delete("notes", ["gone"])
    snapshot = take(tidy)
    assert (snapshot.collection, snapshot.sequence, snapshot.record_count) == ("notes", 4, 2)
    before = list(tidy.records("notes", with_vectors=True, with_sources=True))
    tidy.upsert("notes", ["c"], texts=["later"])

    job = tidy.wait_for_job(tidy.restore_snapshot(snapshot.name, "other").name)
    assert (job.kind, job.subject, job.done_count, job.total_count) == (
        "restore",
        "other",
        snapshot.size_bytes,
        snapshot.size_bytes,
    )
    restored = list(tidy.records("other", with_vectors=True, with_sources=True))
    assert [(r.id, r.version, r.metadata, r.source, r.fingerprint) for r in restored] == [
        (r.id, r.version, r.metadata, r.source, r.fingerprint) for r in before
    ]
    np.testing.assert_array_equal([r.vector for r in restored], [r.vector for r in before])
    old, new = tidy.collection("notes"), tidy.collection("other")
    assert (new.encoder, new.space, new.display_name, new.retain_sources) == ("words", old.space, "Notes", True)
    assert tidy.search("other", text="two", k=1).ids == ["b"]
    assert tidy.upsert("other", ["d"], texts=["new"]).sequence == 5
    asked = health_pb2.HealthCheckRequest(service="collection/other").SerializeToString()
    check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
    assert health_pb2.HealthCheckResponse.FromString(check(asked)).status == health_pb2.HealthCheckResponse.SERVING


def test_a_snapshot_holds_one_moment_while_writes_go_on(tidy: Client) -> None:
    tidy.create_collection("notes", dimension=DIMENSION)
    fill(tidy, count=500)
    stop = threading.Event()

    def write() -> None:
        # Pairs are written together: a copy that holds one of them and not the other was torn.
        number = 0
        while not stop.is_set():
            vectors = np.full((2, DIMENSION), number + 1, np.float32)
            tidy.upsert("notes", [f"left-{number}", f"right-{number}"], vectors=vectors)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        snapshots = [take(tidy) for _ in range(3)]
    finally:
        stop.set()
        writer.join()
    everything = records_of(tidy, "notes")
    for number, snapshot in enumerate(snapshots):
        tidy.wait_for_job(tidy.restore_snapshot(snapshot.name, f"copy-{number}").name)
        found = records_of(tidy, f"copy-{number}")
        assert len(found) == snapshot.record_count == snapshot.sequence
        lefts = {name.removeprefix("left-") for name in found if name.startswith("left-")}
        assert lefts == {name.removeprefix("right-") for name in found if name.startswith("right-")}
        assert found == {name: everything[name] for name in found}
    assert snapshots[0].sequence < snapshots[2].sequence


def test_snapshots_are_listed_the_newest_first_and_deleted(tidy: Client, channel: grpc.Channel, folder: Path) -> None:
    for name in ("notes", "other"):
        tidy.create_collection(name, dimension=DIMENSION)
        fill(tidy, name)
    taken = [take(tidy, name) for name in ("notes", "other", "notes")]
    assert [one.name for one in tidy.snapshots()] == [one.name for one in taken[::-1]]
    assert [one.name for one in tidy.snapshots("notes")] == [taken[2].name, taken[0].name]
    stub = snapshot_service_pb2_grpc.SnapshotServiceStub(channel)
    page = stub.ListSnapshots(snapshot_service_pb2.ListSnapshotsRequest(page_size=2))
    rest = stub.ListSnapshots(snapshot_service_pb2.ListSnapshotsRequest(page_size=2, page_token=page.next_page_token))
    assert [one.name for one in (*page.snapshots, *rest.snapshots)] == [one.name for one in taken[::-1]]
    assert rest.next_page_token == ""
    tidy.delete_snapshot(taken[0].name)
    assert not (folder / taken[0].name).exists()
    with pytest.raises(NotFoundError, match="there is no snapshot"):
        tidy.delete_snapshot(taken[0].name)
    with pytest.raises(NotFoundError):
        tidy.snapshot(taken[0].name)


def test_a_snapshot_travels_as_a_file_and_back(tidy: Client, tmp_path: Path) -> None:
    tidy.create_collection("notes", dimension=DIMENSION)
    fill(tidy)
    snapshot = take(tidy)
    file = tmp_path / "notes-copy.tar"
    heard: list[tuple[int, int]] = []
    tidy.download_snapshot(snapshot.name, file, on_progress=lambda done, total: heard.append((done, total)))
    assert hashlib.sha256(file.read_bytes()).hexdigest() == snapshot.sha256
    assert heard[-1] == (snapshot.size_bytes, snapshot.size_bytes)
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(FileExistsError, match="is there already"):
        tidy.download_snapshot(snapshot.name, file)

    tidy.delete_snapshot(snapshot.name)
    uploaded = tidy.upload_snapshot(file)
    assert (uploaded.name, uploaded.sha256) == ("notes-copy", snapshot.sha256)
    assert (uploaded.sequence, uploaded.record_count) == (snapshot.sequence, snapshot.record_count)
    assert tidy.upload_snapshot(file) == uploaded
    tidy.wait_for_job(tidy.restore_snapshot("notes-copy", "again").name)
    assert records_of(tidy, "again") == records_of(tidy, "notes")


def test_a_download_goes_on_where_it_broke(tidy: Client, tmp_path: Path, channel: grpc.Channel) -> None:
    tidy.create_collection("notes", dimension=DIMENSION)
    fill(tidy)
    snapshot = take(tidy)
    file = tmp_path / "notes.tar"
    tidy.download_snapshot(snapshot.name, file)
    whole = file.read_bytes()
    file.unlink()
    (tmp_path / f".notes.tar.{snapshot.sha256[:16]}.unfinished").write_bytes(whole[:5_000])
    heard: list[int] = []
    tidy.download_snapshot(snapshot.name, file, on_progress=lambda done, _: heard.append(done))
    assert heard[0] == 5_000
    assert file.read_bytes() == whole

    stub = snapshot_service_pb2_grpc.SnapshotServiceStub(channel)
    replies = list(
        stub.DownloadSnapshot(snapshot_service_pb2.DownloadSnapshotRequest(name=snapshot.name, offset_bytes=777))
    )
    assert replies[0].snapshot.sha256 == snapshot.sha256
    assert b"".join(reply.data for reply in replies) == whole[777:]
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.DownloadSnapshot(snapshot_service_pb2.DownloadSnapshotRequest(name=snapshot.name, offset_bytes=-1)))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    (tmp_path / f".other.tar.{snapshot.sha256[:16]}.unfinished").write_bytes(b"?" * 100)
    with pytest.raises(CorruptedError, match="what was downloaded is not snapshot"):
        tidy.download_snapshot(snapshot.name, tmp_path / "other.tar")
    tidy.download_snapshot(snapshot.name, tmp_path / "other.tar")


def test_a_damaged_upload_leaves_nothing(tidy: Client, tmp_path: Path, folder: Path) -> None:
    tidy.create_collection("notes", dimension=DIMENSION)
    fill(tidy)
    snapshot = take(tidy)
    file = tmp_path / "bad.tar"
    tidy.download_snapshot(snapshot.name, file)
    good = file.read_bytes()
    before = sorted(folder.iterdir())
    file.write_bytes(good[:9_000] + bytes([good[9_000] ^ 1]) + good[9_001:])
    with pytest.raises(CorruptedError, match=r"records.sqlite of the snapshot does not match its sha256"):
        tidy.upload_snapshot(file)
    file.write_bytes(b"nothing of ours" * 1_000)
    with pytest.raises(InvalidArgumentError, match="not the bytes of a snapshot"):
        tidy.upload_snapshot(file)
    with pytest.raises(InvalidArgumentError, match=r"snapshot name '../../evil'"):
        tidy.upload_snapshot(file, "../../evil")
    file.write_bytes(good)
    take(tidy)
    other = next(one for one in tidy.snapshots() if one.sha256 != snapshot.sha256)
    with pytest.raises(AlreadyExistsError, match="there is another snapshot"):
        tidy.upload_snapshot(file, other.name)
    assert [path for path in folder.iterdir() if path.name.startswith(".")] == []
    assert set(before) <= set(folder.iterdir())


def test_uploads_are_bounded_in_number_and_one_that_is_given_up_leaves_nothing(
    server: RunningServer, tidy: Client, folder: Path
) -> None:
    release = threading.Event()
    told = snapshot_service_pb2.Snapshot(name="x", size_bytes=10_000, sha256="0" * 64)

    def pieces(name: str) -> Iterator[snapshot_service_pb2.UploadSnapshotRequest]:
        told.name = name
        yield snapshot_service_pb2.UploadSnapshotRequest(snapshot=told)
        release.wait(20)

    with grpc.insecure_channel(server.address) as channel:
        stub = snapshot_service_pb2_grpc.SnapshotServiceStub(channel)
        held = [stub.UploadSnapshot.future(pieces(name)) for name in ("one", "two")]
        while len(list(folder.glob(".draft-*"))) < 2:
            threading.Event().wait(0.01)
        with pytest.raises(OverloadedError, match="2 snapshots are being uploaded already"):
            upload_something(tidy, folder)
        for call in held:
            call.cancel()
        release.set()
    while list(folder.glob(".draft-*")):
        threading.Event().wait(0.01)


def upload_something(client: Client, folder: Path) -> None:
    file = folder.parent / "something.tar"
    file.write_bytes(b"x")
    client.upload_snapshot(file)


def test_damage_is_found_before_a_restore_shows_anything(tidy: Client, folder: Path, server: RunningServer) -> None:
    tidy.create_collection("notes", dimension=DIMENSION)
    fill(tidy)
    snapshot = take(tidy)
    path = folder / snapshot.name / "records.sqlite"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    job = tidy.restore_snapshot(snapshot.name, "other")
    with pytest.raises(CorruptedError, match="does not match its sha256"):
        tidy.wait_for_job(job.name)
    failed = tidy.job(job.name)
    assert (failed.state, failed.error.code if failed.error else "") == ("failed", "DATA_LOSS")
    assert [one.name for one in tidy.collections()] == ["notes"]
    assert [entry.name.split(".")[0] for entry in (folder.parent / "collections").iterdir()] == ["notes"]
    tidy.create_collection("other", dimension=DIMENSION)


def test_a_restore_takes_no_name_that_is_taken(tidy: Client) -> None:
    tidy.create_collection("notes", dimension=DIMENSION)
    fill(tidy)
    snapshot = take(tidy)
    with pytest.raises(AlreadyExistsError, match="there is a collection 'notes' already"):
        tidy.restore_snapshot(snapshot.name, "notes")
    with pytest.raises(InvalidArgumentError, match="collection name 'A/B'"):
        tidy.restore_snapshot(snapshot.name, "A/B")
    with pytest.raises(NotFoundError, match="there is no snapshot 'nothing'"):
        tidy.restore_snapshot("nothing", "other")
    tidy.delete_collection("notes")
    tidy.wait_for_job(tidy.restore_snapshot(snapshot.name, "notes").name)
    assert tidy.count("notes") == 20


def test_a_record_that_is_damaged_gets_into_no_snapshot(
    tidy: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import apsw

    tidy.create_collection("notes", dimension=DIMENSION)
    fill(tidy)
    (path,) = (folder.parent / "collections").glob("notes.*/records.sqlite")
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE records SET vector = zeroblob(16) WHERE key = 7")
    connection.close()
    with pytest.raises(CorruptedError, match="record 'r6' does not match its checksum"):
        tidy.wait_for_job(tidy.create_snapshot("notes").name)
    assert tidy.snapshots() == []


def test_jobs_are_listed_watched_and_cancelled(
    tidy: Client, channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    tidy.create_collection("notes", dimension=DIMENSION)
    fill(tidy)
    held, run = threading.Event(), TakeSnapshot.run

    def slowly(self: TakeSnapshot, workplace: object, progress: object, cancelled: object) -> None:
        held.wait(20)
        run(self, workplace, progress, cancelled)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(TakeSnapshot, "run", slowly)
    first, second = tidy.create_snapshot("notes"), tidy.create_snapshot("notes")
    third = tidy.create_snapshot("notes")
    assert [job.name for job in tidy.jobs()][:3] == [third.name, second.name, first.name]
    assert tidy.job(third.name).state == "pending"
    assert tidy.cancel_job(third.name).state == "cancelled"
    tidy.cancel_job(second.name)
    states: list[str] = []
    watching = threading.Thread(target=lambda: states.extend(job.state for job in tidy.watch_job(first.name)))
    watching.start()
    while not states:
        threading.Event().wait(0.01)
    held.set()
    watching.join(20)
    assert (states[0], states[-1]) == ("running", "succeeded")
    with pytest.raises(ClientError, match="was cancelled"):
        tidy.wait_for_job(second.name)
    assert [one.name for one in tidy.snapshots()] == [first.subject]
    stub = job_service_pb2_grpc.JobServiceStub(channel)
    page = stub.ListJobs(job_service_pb2.ListJobsRequest(page_size=1))
    rest = stub.ListJobs(job_service_pb2.ListJobsRequest(page_size=1, page_token=page.next_page_token))
    assert [page.jobs[0].name, rest.jobs[0].name] == [third.name, second.name]
    with pytest.raises(NotFoundError, match="there is no job 'nobody'"):
        tidy.job("nobody")
    with pytest.raises(NotFoundError):
        list(tidy.watch_job("nobody"))
    with pytest.raises(grpc.RpcError, match="page_token"):
        stub.ListJobs(job_service_pb2.ListJobsRequest(page_token="bm8="))


async def test_the_asynchronous_client_has_the_same_methods(
    tidy: Client, server: RunningServer, tmp_path: Path
) -> None:
    async with AsyncClient(server.address) as client:
        await client.create_collection("notes", dimension=DIMENSION)
        await client.upsert("notes", ["a"], vectors=np.ones((1, DIMENSION), np.float32))
        job = await client.wait_for_job((await client.create_snapshot("notes")).name)
        assert (await client.job(job.name)).state == "succeeded"
        assert job.name in [one.name for one in await client.jobs()]
        assert (await client.cancel_job(job.name)).state == "succeeded"
        snapshot = await client.snapshot(job.subject)
        assert [one.name for one in await client.snapshots("notes")] == [snapshot.name]
        await client.download_snapshot(snapshot.name, tmp_path / "a.tar")
        assert (await client.upload_snapshot(tmp_path / "a.tar", "b")).sha256 == snapshot.sha256
        await client.wait_for_job((await client.restore_snapshot("b", "other")).name)
        assert await client.count("other") == 1
        await client.delete_snapshot("b")

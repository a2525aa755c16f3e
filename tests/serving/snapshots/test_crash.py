"""A server killed in mid-snapshot or mid-restore: the job is done after the restart, and nothing is half there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from diptych.client.calls import RetryPolicy
from diptych.client.errors import ClientError, UnavailableError
from diptych.client.sync import Client
from serving.jobs.kind import Cancelled, JobStopped, Progress
from serving.jobs.workplace import Workplace
from serving.snapshots.take import TakeSnapshot
from tests.serving.running_server import running_server

DIMENSION = 64
RECORDS = 3_000


@contextmanager
def served(folder: Path) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    """A real server in a process of its own; killed at the end if it still runs."""
    (folder / "bundles").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "diptych.cli.main", "serve", "--port", "0"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said: list[str] = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("listening on"):
                break
        else:
            pytest.fail(f"the server ended at its start:\n{''.join(said)}")
        with Client(line.split()[2].rstrip(",")) as client:
            client.wait_until_ready()
            yield process, client
    finally:
        process.kill()
        process.communicate()


def fill(client: Client) -> None:
    client.create_collection("notes", dimension=DIMENSION, retain_sources=False)
    vectors = np.random.default_rng(0).standard_normal((RECORDS, DIMENSION)).astype(np.float32)
    client.upsert("notes", [f"r{number}" for number in range(RECORDS)], vectors=vectors)


def kill_when(process: subprocess.Popen[str], path: Path, pattern: str, delay_s: float) -> None:
    """Kills once something matches, which shows that the work has begun, and a moment has passed."""
    end_s = time.monotonic() + 20
    while not list(path.glob(pattern)):
        assert time.monotonic() < end_s
    time.sleep(delay_s)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(20)


def finished(client: Client, kind: str) -> str:
    """Waits for the only job of a kind; returns its subject."""
    (job,) = (job for job in client.jobs() if job.kind == kind)
    return client.wait_for_job(job.name).subject


def check_same(client: Client, name: str, other: str) -> None:
    one = {record.id: record.vector for record in client.records(name, page_size=1_000, with_vectors=True)}
    two = {record.id: record.vector for record in client.records(other, page_size=1_000, with_vectors=True)}
    assert one.keys() == two.keys()
    assert len(one) == RECORDS
    for identifier, vector in one.items():
        np.testing.assert_array_equal(vector, two[identifier])


def run_round(folder: Path, delay_s: float) -> None:
    data = folder / "data"
    with served(folder) as (process, client):
        fill(client)
        client.create_snapshot("notes")
        kill_when(process, data / "snapshots", "*", delay_s)
    with served(folder) as (process, client):
        snapshot = finished(client, "snapshot")
        assert [one.name for one in client.snapshots()] == [snapshot]
        assert client.snapshot(snapshot).record_count == RECORDS
        assert [path.name for path in (data / "snapshots").iterdir()] == [snapshot]
        client.restore_snapshot(snapshot, "other")
        kill_when(process, data / "collections", "other.*", delay_s)
    with served(folder) as (_, client):
        assert finished(client, "restore") == "other"
        check_same(client, "notes", "other")
        assert len(list((data / "collections").iterdir())) == 2
        with pytest.raises(ClientError, match="there is a collection 'other' already"):
            client.restore_snapshot(snapshot, "other")


def test_a_kill_in_mid_snapshot_and_in_mid_restore_is_made_good_by_the_restart(tmp_path: Path) -> None:
    run_round(tmp_path, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12])
def test_a_kill_at_many_moments_is_made_good_by_the_restart(tmp_path: Path, delay_s: float) -> None:
    run_round(tmp_path, delay_s)


def test_a_drain_lets_watchers_go_and_leaves_the_job_to_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, run = threading.Event(), TakeSnapshot.run

    def wait_to_be_stopped(self: TakeSnapshot, workplace: Workplace, progress: Progress, cancelled: Cancelled) -> None:
        begun.set()
        while not cancelled():
            time.sleep(0.01)
        raise JobStopped

    monkeypatch.setattr(TakeSnapshot, "run", wait_to_be_stopped)
    with running_server(tmp_path, []) as running, Client(running.address, retries=RetryPolicy(attempts=1)) as client:
        client.create_collection("notes", dimension=2)
        job = client.create_snapshot("notes")
        assert begun.wait(10)
        watching = client.watch_job(job.name)
        assert next(watching).state == "running"
        closing = running.begin_close()
        with pytest.raises(UnavailableError, match="watch the job again") as caught:
            list(watching)
        assert caught.value.reason == "DRAINING"
        assert closing.result(20)
    monkeypatch.setattr(TakeSnapshot, "run", run)
    with running_server(tmp_path, []) as running, Client(running.address) as client:
        assert client.wait_for_job(job.name).state == "succeeded"
        assert client.snapshot(job.subject).record_count == 0

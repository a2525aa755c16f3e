"""A server killed in mid-snapshot or mid-restore: the job is done after the restart, and nothing is half there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from diptych.client.errors import ClientError
from diptych.client.sync import Client

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
        line = next(line for line in process.stderr if line.startswith("listening on"))
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

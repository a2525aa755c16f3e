"""A job in shards: whatever kills a process, and however many share it, each input is embedded and none is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from models.bundle.offline import OfflineConfig, embed_offline
from models.bundle.offline_job import JobConfig, ShardFormat, run_job
from tests.models.bundle.tiny_bundle import make_text_bundle, words

WORKER = """
import sys, time
from pathlib import Path
import models.bundle.offline_job as jobs

bundle, files, out, pause_s = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])
embed = jobs.embed_inputs

def slowly(*arguments):
    print("at work", flush=True)
    time.sleep(pause_s)
    return embed(*arguments)

jobs.embed_inputs = slowly
done = jobs.run_job(Path(bundle), [files], jobs.JobConfig(out=out, shard_inputs=10))
print(done.own_shard_count, flush=True)
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    make_text_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """53 lines, of which the seventh holds no text."""
    rng = np.random.default_rng(0)
    lines = [json.dumps({"id": f"t{number}", "text": " ".join(rng.choice(words(), 4))}) for number in range(53)]
    lines[7] = json.dumps({"id": "t7"})
    file = tmp_path / "texts.jsonl"
    file.write_text("\n".join(lines))
    return file


def read(out: Path) -> tuple[list[dict[str, Any]], NDArray[Any]]:
    shards = sorted(out.glob("shard-*.npy"))
    rows = [json.loads(line) for shard in shards for line in shard.with_suffix(".jsonl").read_text().splitlines()]
    return rows, np.concatenate([np.load(shard) for shard in shards])


def start(bundle: Path, texts: Path, out: Path, pause_s: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(bundle), str(texts), str(out), str(pause_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_shards_hold_every_input_once_in_order(bundle: Path, texts: Path, tmp_path: Path) -> None:
    passed: list[int] = []
    done = run_job(bundle, [texts], JobConfig(out=tmp_path / "out", shard_inputs=10), progress=passed.append)

    expected = embed_offline(bundle, [texts])
    rows, vectors = read(tmp_path / "out")
    np.testing.assert_allclose(vectors, expected.vectors, atol=1e-6)
    assert [row["id"] for row in rows] == list(expected.ids)
    assert [(number, row["error"]) for number, row in enumerate(rows) if "error" in row] == list(
        expected.errors.items()
    )
    assert (done.shard_count, done.own_shard_count, done.own_input_count) == (6, 6, 53)
    assert [identifier for identifier, _ in done.errors] == [f"{texts}:8"]
    assert passed == [10, 20, 30, 40, 50, 53]
    told = json.loads((tmp_path / "out/job.json").read_text())
    assert (told["fingerprint"], told["shard_inputs"]) == (done.info.fingerprint, 10)
    assert not [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_a_finished_job_does_nothing_again(bundle: Path, texts: Path, tmp_path: Path) -> None:
    job = JobConfig(out=tmp_path / "out", shard_inputs=20)
    run_job(bundle, [texts], job)
    (tmp_path / "out/shard-00001.npy").unlink()
    again = run_job(bundle, [texts], job)
    assert (again.shard_count, again.own_shard_count, again.own_input_count) == (3, 1, 20)
    assert run_job(bundle, [texts], job).own_shard_count == 0


def test_parquet_has_ids_vectors_and_what_failed(bundle: Path, texts: Path, tmp_path: Path) -> None:
    job = JobConfig(out=tmp_path / "out", shard_inputs=30, format=ShardFormat.PARQUET, half=True)
    done = run_job(bundle, [texts], job)

    table = pq.read_table(tmp_path / "out/shard-00000.parquet")
    expected = embed_offline(bundle, [texts])
    assert table.column("id").to_pylist() == list(expected.ids[:30])
    vectors = table.column("vector").to_pylist()
    assert not any(vectors[7])
    np.testing.assert_allclose(vectors[8], expected.vectors[8], atol=2e-3)
    assert [number for number, error in enumerate(table.column("error").to_pylist()) if error] == [7]
    assert str(table.schema.field("vector").type) == f"fixed_size_list<element: halffloat>[{done.info.dimension}]"
    assert table.schema.metadata[b"diptych.space"].decode() == done.info.space
    assert sum(pq.read_metadata(path).num_rows for path in (tmp_path / "out").glob("*.parquet")) == 53


def test_two_processes_share_a_job(bundle: Path, texts: Path, tmp_path: Path) -> None:
    workers = [start(bundle, texts, tmp_path / "out", 0.3) for _ in range(2)]
    own = [int(worker.communicate(timeout=60)[0].split()[-1]) for worker in workers]
    assert sum(own) == 6  # no shard twice
    assert min(own) >= 1
    rows, vectors = read(tmp_path / "out")
    np.testing.assert_allclose(vectors, embed_offline(bundle, [texts]).vectors, atol=1e-6)
    assert len(rows) == 53


def test_who_is_killed_leaves_his_shard_to_the_others(bundle: Path, texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    victim = start(bundle, texts, out, 600)
    assert victim.stdout is not None
    assert victim.stdout.readline() == "at work\n"
    heir = start(bundle, texts, out, 0)
    deadline_s = time.monotonic() + 60
    while len(list(out.glob("shard-*.npy"))) < 5 and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert heir.poll() is None  # waits for the first shard, which the victim is at
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate()
    assert heir.communicate(timeout=60)[0].split()[-1] == "6"
    np.testing.assert_allclose(read(out)[1], embed_offline(bundle, [texts]).vectors, atol=1e-6)


def test_another_job_in_the_folder_is_refused(bundle: Path, texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_job(bundle, [texts], JobConfig(out=out, shard_inputs=20))
    with pytest.raises(ValueError, match=r"another shard_inputs \(20, not 10\); give the same files"):
        run_job(bundle, [texts], JobConfig(out=out, shard_inputs=10))
    with pytest.raises(ValueError, match=r"another truncate \(True, not False\)"):
        run_job(bundle, [texts], JobConfig(out=out, shard_inputs=20), OfflineConfig(truncate=False))
    texts.write_text(texts.read_text() + "\nmore")
    with pytest.raises(ValueError, match="another files_sha256"):
        run_job(bundle, [texts], JobConfig(out=out, shard_inputs=20))
    with pytest.raises(ValueError, match="holds files but no job"):
        run_job(bundle, [texts], JobConfig(out=bundle))
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    with pytest.raises(ValueError, match="hold no input"):
        run_job(bundle, [empty], JobConfig(out=tmp_path / "none"))
    with pytest.raises(ValueError, match=r"shard_inputs \(0\)"):
        JobConfig(out=out, shard_inputs=0)


def test_parquet_that_is_not_installed_is_named(
    bundle: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match=r"Parquet needs an extra: pip install 'diptych\[parquet\]'"):
        run_job(bundle, [texts], JobConfig(out=tmp_path / "out", format=ShardFormat.PARQUET))
    assert not (tmp_path / "out").exists()

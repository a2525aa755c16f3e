"""Embeds files of any number with a bundle into shards: resumable, in stated memory, by several processes at a time.

A job is a folder: `job.json` says what is embedded and how; each shard is published whole, under its number, so that
what is there is done. A process claims a shard by a lock that the kernel drops with the process: who is killed leaves
his shard to the others.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.bundle.encoder import Encoder, EncoderInfo
from models.bundle.offline import OfflineBatch, OfflineConfig, embed_inputs, iterate_inputs, load_encoder, walk_files

__all__ = ["JobConfig", "JobResult", "ShardFormat", "run_job"]

SCHEMA_VERSION: Final = 1


class ShardFormat(StrEnum):
    """How a shard lies on disk."""

    NPY = "npy"
    """`shard-00000.npy`, `[n, dimension]`, and `shard-00000.jsonl`: an object with `id`, and `error` where one failed,
    for each row."""
    PARQUET = "parquet"
    """`shard-00000.parquet`: columns `id`, `vector` (a list of fixed size; zeros where the input failed, since many
    readers take no null there) and `error`; the encoder, its space and fingerprint are in the file's metadata."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobConfig:
    """A job, beside how the bundle is run."""

    out: Path
    """The job's folder."""
    format: ShardFormat = ShardFormat.NPY
    """How shards lie on disk."""
    shard_inputs: int = 10_000
    """Inputs of a shard: what is held in memory at a time, and what is lost where a process is killed."""
    half: bool = False
    """Whether vectors are written as float16."""

    def __post_init__(self) -> None:
        """Checks the shards."""
        if self.shard_inputs < 1:
            raise ValueError(f"shard_inputs ({self.shard_inputs}) must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class JobResult:
    """What a process found and did."""

    info: EncoderInfo
    shard_count: int
    """Shards of the job, all of them done."""
    own_shard_count: int
    """Those that this process did."""
    own_input_count: int
    """Inputs of these."""
    errors: Sequence[tuple[str, str]]
    """Id and reason of the inputs that failed in these."""


def run_job(
    bundle_path: Path,
    files: Sequence[Path],
    job: JobConfig,
    config: OfflineConfig | None = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> JobResult:
    """Embeds files into a folder of shards, and returns once all of them are there.

    Args:
        bundle_path: The bundle's folder.
        files: As `iterate_inputs` reads them.
        job: Folder and shards; another process may run the same job at the same time, and a killed one is gone on with.
        config: How to run; the defaults where None.
        progress: Called with the number of inputs that are passed, done before or not.

    Returns:
        What was done.

    Raises:
        BundleError: The bundle is refused.
        ValueError: The folder holds another job, files have changed since it was begun, or there is no input at all.
    """
    used = config or OfflineConfig()
    writer = _writer(job.format)
    encoder = load_encoder(bundle_path, used)
    _begin(job, _describe(encoder.info, files, job, used))
    shards = _Shards(job, encoder, used, writer, files)
    waiting: list[int] = []
    for number, count in shards.each(progress):
        if not shards.do(number, count, wait=False):
            waiting.append(number)
    # Others are at these: where one of them is killed, its lock falls and the shard is done here.
    for number, count in shards.each(None) if waiting else ():
        if number in waiting:
            shards.do(number, count, wait=True)
    if not shards.count:
        raise ValueError(f"the {len(files)} files hold no input; a text file holds one text a line")
    return JobResult(
        info=encoder.info,
        shard_count=shards.count,
        own_shard_count=shards.own_count,
        own_input_count=shards.own_input_count,
        errors=shards.errors,
    )


class _Shards:
    """The shards of a job, gone through in order."""

    def __init__(
        self, job: JobConfig, encoder: Encoder, config: OfflineConfig, writer: _Writer, files: Sequence[Path]
    ) -> None:
        self._job = job
        self._encoder = encoder
        self._config = config
        self._writer = writer
        self._files = files
        self._window: list[Any] = []
        self.count = 0
        self.own_count = 0
        self.own_input_count = 0
        self.errors: list[tuple[str, str]] = []

    def each(self, progress: Callable[[int], None] | None) -> Iterator[tuple[int, int]]:
        """Yields each shard's number and inputs; those are at hand until the next."""
        inputs = iterate_inputs(self._files, self._encoder.info.modality)
        passed = self.count = 0
        while window := list(islice(inputs, self._job.shard_inputs)):
            self._window = window
            yield self.count, len(window)
            self.count += 1
            passed += len(window)
            if progress is not None:
                progress(passed)

    def do(self, number: int, count: int, *, wait: bool) -> bool:
        """Does the shard at hand unless it is there; returns False where another process is at it."""
        done = self._path(number)
        if done.exists():
            return True
        with _claim(self._job.out / f".shard-{number:05d}.lock", wait=wait) as is_ours:
            if not is_ours:
                return False
            if not done.exists():
                batch = embed_inputs(self._encoder, self._window, self._config)
                self._writer(done, batch, self._encoder.info, np.float16 if self._job.half else np.float32)
                self.own_count += 1
                self.own_input_count += count
                self.errors += [(batch.ids[row], message) for row, message in sorted(batch.errors.items())]
        return True

    def _path(self, number: int) -> Path:
        return self._job.out / f"shard-{number:05d}.{self._job.format}"


def _describe(info: EncoderInfo, files: Sequence[Path], job: JobConfig, config: OfflineConfig) -> dict[str, Any]:
    """Says what the job is: two processes that say the same do the same shards."""
    digest, count = sha256(), 0
    for path in walk_files(files):
        status = path.stat()
        digest.update(f"{path.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        count += 1
    return {
        "schema_version": SCHEMA_VERSION,
        "encoder": info.name,
        "version": info.version,
        "space": info.space,
        "fingerprint": info.fingerprint,
        "dimension": info.dimension,
        "purpose": str(config.purpose),
        "truncate": config.truncate,
        "format": str(job.format),
        "dtype": "float16" if job.half else "float32",
        "shard_inputs": job.shard_inputs,
        "files": count,
        "files_sha256": digest.hexdigest(),
    }


def _begin(job: JobConfig, described: Mapping[str, Any]) -> None:
    file = job.out / "job.json"
    # In this order: another process may begin the same job just now; it makes nothing before that file is there.
    strangers = [entry for entry in job.out.glob("*") if not entry.name.startswith(".")]
    if strangers and not file.exists():
        raise ValueError(f"{job.out} holds files but no job; choose a new or empty folder")
    if file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))
        changed = [name for name in described if before.get(name) != described[name]]
        if changed:
            name = changed[0]
            raise ValueError(
                f"{job.out} holds a job with another {name} ({before.get(name)}, not {described[name]}); "
                "give the same files, bundle and flags to go on with it, or choose another folder"
            )
        return
    job.out.mkdir(parents=True, exist_ok=True)
    _publish(file, lambda path: path.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8"))


@contextmanager
def _claim(path: Path, *, wait: bool) -> Iterator[bool]:
    """Takes a lock that the kernel drops with this process; yields whether it is ours."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
        # Gone before the lock is: who waits for it sees the shard, and nobody else needs it.
        path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


_Writer = Callable[[Path, OfflineBatch, EncoderInfo, type[np.floating[Any]]], None]


def _writer(format: ShardFormat) -> _Writer:
    if format is ShardFormat.NPY:
        return _write_npy
    try:
        import pyarrow.parquet  # noqa: F401 - said before the work, not after the first shard
    except ImportError as error:
        raise ValueError("Parquet needs an extra: pip install 'diptych[parquet]'; npy needs none") from error
    return _write_parquet


def _write_npy(done: Path, batch: OfflineBatch, _info: EncoderInfo, dtype: type[np.floating[Any]]) -> None:
    lines = [
        json.dumps({"id": identifier} | ({"error": batch.errors[row]} if row in batch.errors else {}))
        for row, identifier in enumerate(batch.ids)
    ]
    _publish(done.with_suffix(".jsonl"), lambda path: path.write_text("\n".join(lines) + "\n", encoding="utf-8"))
    # Last, because where the vectors are the shard is done.
    _publish(done, lambda path: _save(path, batch.vectors.astype(dtype)))


def _save(path: Path, vectors: NDArray[Any]) -> None:
    with path.open("wb") as stream:
        np.save(stream, vectors, allow_pickle=False)


def _write_parquet(done: Path, batch: OfflineBatch, info: EncoderInfo, dtype: type[np.floating[Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = pa.array(batch.vectors.astype(dtype).reshape(-1))
    columns = {
        "id": pa.array(batch.ids, pa.string()),
        "vector": pa.FixedSizeListArray.from_arrays(values, info.dimension),
        "error": pa.array([batch.errors.get(row) for row in range(len(batch.ids))], pa.string()),
    }
    told = {"encoder": info.name, "space": info.space, "fingerprint": info.fingerprint, "metric": info.metric}
    table = pa.table(columns).replace_schema_metadata({f"diptych.{name}": value for name, value in told.items()})
    _publish(done, lambda path: pq.write_table(table, path, compression="zstd"))


def _publish(path: Path, write: Callable[[Path], object]) -> None:
    """Puts a file in place whole, and durably."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        write(unfinished)
        with unfinished.open("rb") as stream:
            os.fsync(stream.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)

"""The jobs' own small database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import apsw

from serving.collections.database import Schema, open_database, storage_errors
from serving.jobs.job import Job, JobState
from serving.stored_errors import error_from_json, error_to_json

__all__ = ["JOBS_SCHEMA", "JobTable", "StoredJob"]

JOBS_SCHEMA = Schema(
    application_id=0x64694A42,
    statements="""
        CREATE TABLE jobs (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL UNIQUE,
            kind TEXT NOT NULL,
            subject TEXT NOT NULL,
            request TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('pending', 'running', 'succeeded', 'failed', 'cancelled')),
            create_time_us INTEGER NOT NULL,
            start_time_us INTEGER,
            end_time_us INTEGER,
            done_count INTEGER NOT NULL DEFAULT 0,
            total_count INTEGER NOT NULL DEFAULT 0,
            saved TEXT NOT NULL DEFAULT '{}',
            error TEXT
        ) STRICT;
        CREATE INDEX jobs_unfinished ON jobs (number) WHERE end_time_us IS NULL;
    """,
)
_COLUMNS = (
    "number, name, kind, subject, request, state, create_time_us, start_time_us, end_time_us, done_count, total_count, "
    "saved, error"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredJob:
    """A row: the job, what was asked for, and what it saved."""

    job: Job
    request: Mapping[str, Any]
    saved: Mapping[str, Any]


class JobTable:
    """Reads and writes the jobs' rows, each call durable when it returns; for one thread at a time.

    Args:
        path: Database file; created where missing.

    Raises:
        FailedPrecondition: A newer diptych wrote it.
        Corrupted: It is no database of jobs.
    """

    def __init__(self, path: Path) -> None:
        self._connection = open_database(path, JOBS_SCHEMA, create=True)

    def add(self, name: str, kind: str, subject: str, request: Mapping[str, Any], create_time: datetime) -> Job:
        """Adds a job that waits for its turn.

        Args:
            name: A new one.
            kind: Name of its kind.
            subject: What it is done to.
            request: What was asked for.
            create_time: Now.

        Returns:
            The job.
        """
        number = self._change(
            "INSERT INTO jobs (name, kind, subject, request, state, create_time_us) VALUES (?, ?, ?, ?, ?, ?)",
            (name, kind, subject, json.dumps(request), JobState.PENDING.value, _to_us(create_time)),
        )
        return Job(
            number=number, name=name, kind=kind, subject=subject, state=JobState.PENDING, create_time=create_time
        )

    def update(self, job: Job) -> None:
        """Stores where a job stands.

        Args:
            job: A known one.
        """
        error = None if job.error is None else json.dumps(error_to_json(job.error))
        times = (_to_us(job.start_time), _to_us(job.end_time))
        self._change(
            "UPDATE jobs SET state = ?, start_time_us = ?, end_time_us = ?, done_count = ?, total_count = ?, error = ? "
            "WHERE number = ?",
            (job.state.value, *times, job.done_count, job.total_count, error, job.number),
        )

    def save(self, number: int, saved: Mapping[str, Any]) -> None:
        """Stores what a job needs to go on.

        Args:
            number: The job's.
            saved: What JSON can hold.
        """
        self._change("UPDATE jobs SET saved = ? WHERE number = ?", (json.dumps(saved), number))

    def find(self, name: str) -> StoredJob | None:
        """Returns a job.

        Args:
            name: Its name.

        Returns:
            The row, or None.
        """
        rows = self._rows(f"SELECT {_COLUMNS} FROM jobs WHERE name = ?", (name,))
        return rows[0] if rows else None

    def unfinished(self) -> list[StoredJob]:
        """Returns the jobs that have not ended, the oldest first."""
        return self._rows(f"SELECT {_COLUMNS} FROM jobs WHERE end_time_us IS NULL ORDER BY number", ())

    def page(self, before_number: int, size: int) -> list[StoredJob]:
        """Returns jobs, the newest first.

        Args:
            before_number: Only older ones than this; 0: from the newest.
            size: Most rows.

        Returns:
            Fewer than asked for only at the end.
        """
        statement = f"SELECT {_COLUMNS} FROM jobs WHERE number < ? ORDER BY number DESC LIMIT ?"
        return self._rows(statement, (before_number or 2**62, size))

    def forget(self, *, kept_count: int, ended_before: datetime) -> None:
        """Removes jobs that ended long ago.

        Args:
            kept_count: Ended jobs that stay, the newest...
            ended_before: ...but none that ended before this.
        """
        self._change(
            "DELETE FROM jobs WHERE end_time_us IS NOT NULL AND (end_time_us < ? OR number NOT IN "
            "(SELECT number FROM jobs WHERE end_time_us IS NOT NULL ORDER BY number DESC LIMIT ?))",
            (_to_us(ended_before), kept_count),
        )

    def close(self) -> None:
        """Folds the log into the database and closes it; closing twice is harmless."""
        self._connection.close(True)

    def _rows(self, statement: str, values: tuple[apsw.SQLiteValue, ...]) -> list[StoredJob]:
        with storage_errors("the jobs", self._connection):
            found = cast("Iterable[Sequence[Any]]", self._connection.execute(statement, values).fetchall())
        return [_stored_job(row) for row in found]

    def _change(self, statement: str, values: tuple[apsw.SQLiteValue, ...]) -> int:
        with storage_errors("the jobs", self._connection):
            self._connection.execute(statement, values)
        return self._connection.last_insert_rowid()


def _stored_job(row: Sequence[Any]) -> StoredJob:
    number, name, kind, subject, request, state, created, started, ended, done, total, saved, error = row
    job = Job(
        number=number,
        name=name,
        kind=kind,
        subject=subject,
        state=JobState(state),
        create_time=_EPOCH + created * _MICROSECOND,
        start_time=_from_us(started),
        end_time=_from_us(ended),
        done_count=done,
        total_count=total,
        error=None if error is None else error_from_json(json.loads(error)),
    )
    return StoredJob(job=job, request=json.loads(request), saved=json.loads(saved))


def _to_us(time: datetime | None) -> int | None:
    return None if time is None else (time - _EPOCH) // _MICROSECOND


def _from_us(time_us: int | None) -> datetime | None:
    return None if time_us is None else _EPOCH + time_us * _MICROSECOND

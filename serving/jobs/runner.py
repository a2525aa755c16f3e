"""Runs jobs in threads of their own, a few at a time, and goes on with them after a restart."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from serving.errors import Draining, JobFailed, JobNotFound, ServingError
from serving.jobs.config import JobsConfig
from serving.jobs.job import Job, JobState
from serving.jobs.kind import JobKind, JobStopped
from serving.jobs.table import JobTable, StoredJob
from serving.jobs.workplace import Workplace

__all__ = ["JOBS_FILE", "JobRunner"]

logger = logging.getLogger(__name__)

JOBS_FILE = "jobs.sqlite"
_STORED_EVERY_S = 1.0
"""Least time between two writes of a job's progress."""

Listener = Callable[[Job], None]


def _now() -> datetime:
    return datetime.now(UTC)


class JobRunner:
    """Keeps the jobs of one data folder; calls may come from any thread.

    Jobs that had not ended when the server stopped go on where their kind resumes; the others end as failed.

    Args:
        path: The jobs' database; created where missing.
        kinds: The kinds of jobs, by name.
        workplace: What jobs work on.
        config: How many run, and are remembered.
        clock: Tells times in UTC.

    Raises:
        FailedPrecondition: A newer diptych wrote the database.
        Corrupted: It is damaged.
    """

    def __init__(
        self,
        path: Path,
        kinds: Mapping[str, type[JobKind]],
        workplace: Workplace,
        config: JobsConfig | None = None,
        *,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._kinds = kinds
        self._workplace = workplace
        self._config = config or JobsConfig()
        self._clock = clock
        self._lock = threading.RLock()
        self._live: dict[str, _Running] = {}
        self._listeners: list[Listener] = []
        self._closing = threading.Event()
        self._table = JobTable(path)
        self._threads = ThreadPoolExecutor(self._config.running_jobs, thread_name_prefix="job")
        with self._lock:
            self._forget()
            for stored in self._table.unfinished():
                self._take_up(stored)

    def submit(self, kind: JobKind) -> Job:
        """Starts a job as soon as its turn comes; it is stored when this returns.

        Args:
            kind: What to do.

        Returns:
            The job.

        Raises:
            Draining: The server is shutting down.
            StorageFull: The disk has no room to note it.
        """
        with self._lock:
            if self._closing.is_set():
                raise Draining("the server is shutting down; start the job again in a moment")
            name = f"{kind.kind}-{secrets.token_hex(6)}"
            # The classes are frozen dataclasses, which their base cannot say.
            request: Mapping[str, Any] = asdict(kind)  # type: ignore[call-overload]  # see above
            job = self._table.add(name, kind.kind, kind.subject, request, self._clock())
            self._begin(job, kind, {})
        return job

    def get(self, name: str) -> Job:
        """Returns a job.

        Args:
            name: Its name.

        Returns:
            The job as it stands.

        Raises:
            JobNotFound: There is none of that name, or it ended long ago.
        """
        with self._lock:
            if name in self._live:
                return self._live[name].job
            stored = self._table.find(name)
        if stored is None:
            raise JobNotFound(f"there is no job {name!r:.100}, or it ended long ago", job=name)
        return stored.job

    def list(self, *, before_number: int, size: int) -> list[Job]:
        """Returns jobs, the newest first.

        Args:
            before_number: Only older ones than this; 0: from the newest.
            size: Most jobs.

        Returns:
            Fewer than asked for only at the end.
        """
        with self._lock:
            stored = [entry.job for entry in self._table.page(before_number, size)]
            return [self._live[job.name].job if job.name in self._live else job for job in stored]

    def cancel(self, name: str) -> Job:
        """Asks a job to stop; one that has ended stays as it is.

        Args:
            name: Its name.

        Returns:
            The job as it stands; it ends at its next safe point.

        Raises:
            JobNotFound: There is none of that name.
        """
        with self._lock:
            running = self._live.get(name)
            if running is not None:
                running.cancelled.set()
                if running.job.state is JobState.PENDING:
                    self._end(running, JobState.CANCELLED)
                return running.job
        return self.get(name)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Tells a listener of every change of a job, in the thread that made it.

        Args:
            listener: Must return at once.

        Returns:
            Ends it.
        """
        with self._lock:
            self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def close(self) -> None:
        """Stops what runs at its next safe point; what resumes goes on at the next start. Closing twice is harmless."""
        self._closing.set()
        self._threads.shutdown(cancel_futures=True)
        with self._lock:
            self._table.close()

    def _take_up(self, stored: StoredJob) -> None:
        """Goes on with a job of the process before, or says that it cannot."""
        job, kind = stored.job, self._kinds.get(stored.job.kind)
        if kind is None:
            self._fail_stored(job, f"this diptych knows no job of kind {job.kind!r}; start it with the one that does")
        elif job.state is JobState.RUNNING and not kind.resumes:
            self._fail_stored(job, "the server stopped while the job ran; start it again")
        else:
            self._begin(replace(job, state=JobState.PENDING), kind(**stored.request), stored.saved)

    def _fail_stored(self, job: Job, message: str) -> None:
        error = JobFailed(message, job=job.name)
        self._table.update(replace(job, state=JobState.FAILED, end_time=self._clock(), error=error))

    def _begin(self, job: Job, kind: JobKind, saved: Mapping[str, Any]) -> None:
        running = _Running(self, job, kind, saved)
        self._live[job.name] = running
        self._threads.submit(self._run, running)

    def _run(self, running: _Running) -> None:
        with self._lock:
            if running.job.state.is_end or self._closing.is_set():
                return
            start_time = running.job.start_time or self._clock()
            self._change(running, replace(running.job, state=JobState.RUNNING, start_time=start_time))
        try:
            running.kind.run(self._workplace, running, running.is_cancelled)
        except JobStopped:
            self._end_stopped(running)
        except ServingError as error:
            self._end(running, JobState.FAILED, error)
        except Exception:
            logger.exception("job failed of a defect", extra={"job": running.job.name})
            message = "the job failed; the server's log has the cause"
            self._end(running, JobState.FAILED, JobFailed(message, job=running.job.name))
        else:
            self._end(running, JobState.SUCCEEDED)

    def _end_stopped(self, running: _Running) -> None:
        if running.cancelled.is_set():
            self._end(running, JobState.CANCELLED)
        elif not running.kind.resumes:
            message = "the server stopped while the job ran; start it again"
            self._end(running, JobState.FAILED, JobFailed(message, job=running.job.name))
        # Otherwise its row says that it has not ended, and the next start goes on with it.

    def _end(self, running: _Running, state: JobState, error: ServingError | None = None) -> None:
        with self._lock:
            self._change(running, replace(running.job, state=state, end_time=self._clock(), error=error))
            # Told of as ended only once it is stored as such.
            self._live.pop(running.job.name, None)
            self._forget()
        detail = {"job": running.job.name, "subject": running.job.subject, "state": state.value}
        logger.info("job ended", extra=detail | ({"detail": error.message} if error else {}))

    def _change(self, running: _Running, job: Job, *, store: bool = True) -> None:
        with self._lock:
            if store:
                try:
                    self._table.update(job)
                except ServingError as error:
                    # A full disk must not keep a job from ending; the next start takes it up again.
                    logger.warning("job cannot be stored", extra={"job": job.name, "detail": error.message})
            running.job = job
            for listener in list(self._listeners):
                listener(job)

    def _forget(self) -> None:
        ended_before = self._clock() - timedelta(days=self._config.kept_job_days)
        try:
            self._table.forget(kept_count=self._config.kept_jobs, ended_before=ended_before)
        except ServingError as error:
            logger.warning("old jobs cannot be removed", extra={"detail": error.message})


class _Running:
    """A job that has not ended; what its kind sees as progress."""

    def __init__(self, runner: JobRunner, job: Job, kind: JobKind, saved: Mapping[str, Any]) -> None:
        self._runner = runner
        self.job = job
        self.kind = kind
        self.cancelled = threading.Event()
        self._saved = saved
        self._next_store_s = 0.0

    @property
    def saved(self) -> Mapping[str, Any]:
        """As `Progress` has it."""
        return self._saved

    def report(self, done_count: int, total_count: int) -> None:
        """Does what `Progress` says."""
        now_s = time.monotonic()
        store = now_s >= self._next_store_s
        if store:
            self._next_store_s = now_s + _STORED_EVERY_S
        job = replace(self.job, done_count=done_count, total_count=total_count)
        self._runner._change(self, job, store=store)

    def save(self, state: Mapping[str, Any]) -> None:
        """Does what `Progress` says."""
        with self._runner._lock:
            self._runner._table.save(self.job.number, state)
            self._saved = dict(state)

    def is_cancelled(self) -> bool:
        """Says whether the job shall stop, because someone asked for it or the server stops."""
        return self.cancelled.is_set() or self._runner._closing.is_set()

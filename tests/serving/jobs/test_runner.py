from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from serving.errors import Draining, InvalidInput, JobFailed, JobNotFound, StorageFull
from serving.jobs.config import JobsConfig
from serving.jobs.job import Job, JobState
from serving.jobs.kind import Cancelled, JobKind, JobStopped, Progress
from serving.jobs.runner import JobRunner
from serving.jobs.workplace import Workplace

NOWHERE = cast(Workplace, None)
"""These jobs touch nothing."""
GATES: dict[str, threading.Event] = {}
"""What a waiting job waits for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Count(JobKind):
    """Counts to ten; waits at five until its gate is open; remembers how far it came."""

    kind: ClassVar[str] = "count"
    resumes: ClassVar[bool] = True
    name: str

    @property
    def subject(self) -> str:
        return self.name

    def run(self, workplace: Workplace, progress: Progress, cancelled: Cancelled) -> None:
        for number in range(progress.saved.get("number", 0) + 1, 11):
            if number == 4:
                progress.save({"number": number})
            progress.report(number, 10)
            while number == 5 and not GATES[self.name].wait(0.01):
                if cancelled():
                    raise JobStopped


@dataclass(frozen=True, kw_only=True, slots=True)
class CountOnce(Count):
    kind: ClassVar[str] = "count-once"
    resumes: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Fail(JobKind):
    kind: ClassVar[str] = "fail"
    resumes: ClassVar[bool] = True
    known: bool

    @property
    def subject(self) -> str:
        return "nothing"

    def run(self, workplace: Workplace, progress: Progress, cancelled: Cancelled) -> None:
        raise InvalidInput("value (7) must be 8", value=7) if self.known else KeyError("a secret")


KINDS: dict[str, type[JobKind]] = {kind.kind: kind for kind in (Count, CountOnce, Fail)}
Open = Callable[..., JobRunner]


@pytest.fixture
def open_runner(tmp_path: Path) -> Iterator[Open]:
    opened: list[JobRunner] = []

    def open_one(kinds: dict[str, type[JobKind]] = KINDS, **settings: Any) -> JobRunner:
        for runner in opened:
            runner.close()
        clock = settings.pop("clock", lambda: datetime.now(UTC))
        opened.append(JobRunner(tmp_path / "jobs.sqlite", kinds, NOWHERE, JobsConfig(**settings), clock=clock))
        return opened[-1]

    GATES.clear()
    yield open_one
    for gate in GATES.values():
        gate.set()
    for runner in opened:
        runner.close()


def ended(runner: JobRunner, name: str) -> Job:
    done = threading.Event()
    stop = runner.listen(lambda job: done.set() if job.name == name and job.state.is_end else None)
    while not runner.get(name).state.is_end:
        assert done.wait(10)
    stop()
    return runner.get(name)


def reached(runner: JobRunner, name: str, count: int) -> Job:
    changed = threading.Event()
    stop = runner.listen(lambda _: changed.set())
    while (job := runner.get(name)).done_count < count:
        assert changed.wait(10)
        changed.clear()
    stop()
    return job


def waiting(runner: JobRunner, name: str, kind: type[Count] = Count) -> Job:
    GATES.setdefault(name, threading.Event()).clear()
    return reached(runner, runner.submit(kind(name=name)).name, 5)


def test_a_job_runs_to_its_end_and_tells_how_far_it_is(open_runner: Open) -> None:
    runner = open_runner()
    GATES["a"] = threading.Event()
    GATES["a"].set()
    heard: list[tuple[str, int]] = []
    runner.listen(lambda job: heard.append((job.state, job.done_count)))
    job = runner.submit(Count(name="a"))
    assert (job.kind, job.subject, job.state, job.start_time) == ("count", "a", JobState.PENDING, None)
    job = ended(runner, job.name)
    assert (job.state, job.done_count, job.total_count, job.error) == (JobState.SUCCEEDED, 10, 10, None)
    assert job.start_time is not None
    assert job.end_time is not None
    assert job.create_time <= job.start_time <= job.end_time
    assert heard == [("running", 0), *(("running", n) for n in range(1, 11)), ("succeeded", 10)]


def test_a_job_that_resumes_goes_on_after_a_restart_where_it_was(open_runner: Open) -> None:
    runner = open_runner()
    job = waiting(runner, "a")
    again = open_runner()
    assert again.get(job.name).number == job.number
    GATES["a"].set()
    assert ended(again, job.name).state is JobState.SUCCEEDED
    assert again.get(job.name).done_count == 10
    assert len(again.list(before_number=0, size=10)) == 1


def test_a_job_that_does_not_resume_says_so(open_runner: Open) -> None:
    job = waiting(open_runner(), "a", CountOnce)
    again = open_runner().get(job.name)
    assert again.state is JobState.FAILED
    assert isinstance(again.error, JobFailed)
    assert again.error.message == "the server stopped while the job ran; start it again"


@pytest.mark.parametrize(("kind", "state"), [(CountOnce, JobState.FAILED), (Count, JobState.SUCCEEDED)])
def test_after_a_crash_too_a_job_goes_on_or_says_that_it_cannot(
    open_runner: Open, tmp_path: Path, kind: type[Count], state: JobState
) -> None:
    job = waiting(open_runner(), "a", kind)
    # What lies on the disk now is what a killed process leaves.
    for file in tmp_path.glob("jobs.sqlite*"):
        shutil.copy(file, tmp_path / f"crashed-{file.name}")
    GATES["a"].set()
    again = JobRunner(tmp_path / "crashed-jobs.sqlite", KINDS, NOWHERE)
    try:
        assert ended(again, job.name).state is state
        assert (again.get(job.name).error is None) == (kind is Count)
    finally:
        again.close()


def test_a_job_that_waited_is_run_after_a_restart_whether_it_resumes_or_not(open_runner: Open) -> None:
    runner = open_runner(running_jobs=1)
    first = waiting(runner, "a")
    second = runner.submit(CountOnce(name="a"))
    assert second.state is JobState.PENDING
    again = open_runner(running_jobs=1)
    GATES["a"].set()
    assert ended(again, second.name).state is JobState.SUCCEEDED
    assert ended(again, first.name).state is JobState.SUCCEEDED


def test_a_job_of_an_unknown_kind_fails_and_stops_no_other_one(open_runner: Open) -> None:
    job = waiting(open_runner(), "a")
    again = open_runner({"fail": Fail})
    assert again.get(job.name).state is JobState.FAILED
    assert "knows no job of kind 'count'" in str(again.get(job.name).error)
    ended(again, again.submit(Fail(known=True)).name)


def test_cancelling_stops_a_running_job_and_one_that_waits(open_runner: Open) -> None:
    runner = open_runner(running_jobs=1)
    first = waiting(runner, "a")
    second = runner.submit(Count(name="a"))
    assert runner.cancel(second.name).state is JobState.CANCELLED
    runner.cancel(first.name)
    assert ended(runner, first.name).state is JobState.CANCELLED
    assert runner.cancel(first.name).state is JobState.CANCELLED
    again = open_runner()
    assert [job.state for job in again.list(before_number=0, size=9)] == [JobState.CANCELLED] * 2


def test_a_job_that_fails_says_why_and_a_defect_keeps_its_secrets(
    open_runner: Open, caplog: pytest.LogCaptureFixture
) -> None:
    runner = open_runner()
    known, unknown = runner.submit(Fail(known=True)), runner.submit(Fail(known=False))
    ended(runner, known.name)
    ended(runner, unknown.name)
    again = open_runner()
    error = again.get(known.name).error
    assert isinstance(error, InvalidInput)
    assert (error.message, error.metadata) == ("value (7) must be 8", {"value": "7"})
    assert str(again.get(unknown.name).error) == "the job failed; the server's log has the cause"
    assert "a secret" in caplog.text


def test_only_so_many_run_at_a_time(open_runner: Open) -> None:
    runner = open_runner(running_jobs=2)
    waiting(runner, "a")
    waiting(runner, "b")
    GATES["c"] = threading.Event()
    third = runner.submit(Count(name="c"))
    assert third.state is JobState.PENDING
    GATES["a"].set()
    assert reached(runner, third.name, 5).state is JobState.RUNNING


def test_ended_jobs_are_forgotten_by_number_and_by_age(open_runner: Open) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    runner = open_runner(kept_jobs=3, clock=lambda: now)
    names = [runner.submit(Fail(known=True)).name for _ in range(5)]
    for name in names[-2:]:
        ended(runner, name)
    open_runner(kept_jobs=3, clock=lambda: now)
    kept = open_runner(kept_jobs=3, clock=lambda: now).list(before_number=0, size=10)
    assert [job.name for job in kept] == names[:1:-1]
    later = open_runner(kept_jobs=3, clock=lambda: now + timedelta(days=31))
    assert later.list(before_number=0, size=10) == []
    with pytest.raises(JobNotFound, match="there is no job 'nobody'"):
        later.get("nobody")


def test_pages_go_from_the_newest_on(open_runner: Open) -> None:
    runner = open_runner()
    names = [runner.submit(Fail(known=True)).name for _ in range(5)]
    first = runner.list(before_number=0, size=2)
    second = runner.list(before_number=first[-1].number, size=9)
    assert [job.name for job in (*first, *second)] == names[::-1]


def test_a_closed_runner_takes_nothing(open_runner: Open) -> None:
    runner = open_runner()
    runner.close()
    with pytest.raises(Draining):
        runner.submit(Fail(known=True))


def test_a_full_disk_keeps_no_job_from_ending(
    open_runner: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runner = open_runner()
    job = waiting(runner, "a")

    def full(*_: object, **__: object) -> None:
        raise StorageFull("no room")

    heard: list[JobState] = []
    runner.listen(lambda job: heard.append(job.state))
    monkeypatch.setattr(runner._table, "update", full)
    monkeypatch.setattr(runner._table, "save", lambda *_: None)
    GATES["a"].set()
    while JobState.SUCCEEDED not in heard:
        threading.Event().wait(0.01)
    monkeypatch.undo()
    assert "job cannot be stored" in caplog.text
    assert ended(open_runner(), job.name).state is JobState.SUCCEEDED

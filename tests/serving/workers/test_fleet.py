"""Workers come, die, hang and lag behind; the owner goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from serving.config import ServerConfig
from serving.encoders.config import RuntimeConfig
from serving.encoders.pool import EncoderPool
from serving.encoders.state import EncoderPhase, EncoderState
from serving.workers import fleet as fleet_module
from serving.workers.control import Step, StepOutcome
from serving.workers.fleet import Fleet
from serving.workers.process import WorkerGone, WorkerProcess
from serving.workers.settings import WorkerSettings
from serving.workers.sockets import SocketFolder

WAIT_S = 10.0


class FakeWorker(WorkerProcess):
    """Lives until it is told to end; may be made to refuse a step or to ignore SIGTERM."""

    pid = 4711

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.number = settings.number
        self.answers = False
        self.steps: list[Step] = []
        self.outcome: StepOutcome | Exception = StepOutcome()
        self.deaf = False
        self.exit_code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def keep_step(self, wanted: Step, *, wait: bool = False) -> StepOutcome:
        self.steps.append(wanted)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        self.answers = True
        return self.outcome

    def end(self, code: int) -> None:
        if not self.exit_code.done():
            self.exit_code.set_result(code)

    async def wait(self) -> int:
        return await asyncio.shield(self.exit_code)

    def terminate(self) -> None:
        if not self.deaf:
            self.end(0)

    def kill(self) -> None:
        self.end(-9)

    async def close(self) -> None:
        self.kill()


class Nursery:
    """Starts fake workers and keeps them."""

    def __init__(self) -> None:
        self.workers: list[FakeWorker] = []
        self.prepare: Callable[[FakeWorker], None] = lambda _: None

    async def start(self, settings: WorkerSettings) -> WorkerProcess:
        worker = FakeWorker(settings)
        self.prepare(worker)
        self.workers.append(worker)
        return worker

    async def until(self, count: int) -> FakeWorker:
        async with asyncio.timeout(WAIT_S):
            while len(self.workers) < count or not self.workers[count - 1].steps:
                await asyncio.sleep(0.002)
        return self.workers[count - 1]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(fleet_module, "LEAVE_S", 0.05)


@asynccontextmanager
async def running(nursery: Nursery, pool: EncoderPool, workers: int = 2) -> AsyncIterator[Fleet]:
    fleet = Fleet(ServerConfig(workers=workers, port=0), pool, start=nursery.start)
    fleet.prepare()
    fleet.start(1234)
    try:
        yield fleet
    finally:
        fleet.stop()
        await fleet.finish(0.0)


async def test_a_worker_loads_once_its_owner_has(caplog: pytest.LogCaptureFixture) -> None:
    nursery, pool = Nursery(), EncoderPool(RuntimeConfig())
    async with running(nursery, pool) as fleet:
        await asyncio.sleep(0.02)
        [worker] = nursery.workers
        assert (worker.steps, fleet.up()) == ([], {1: False})
        assert (worker.settings.port, worker.settings.number) == (1234, 1)
        pool.roster.set_state("broken", EncoderState(EncoderPhase.REFUSED, "a byte was flipped"))
        await asyncio.wait_for(fleet.owner_is_loaded(), WAIT_S)
        assert worker.steps == [Step(encoders={}, states={"broken": ("refused", "a byte was flipped")})]
        assert (fleet.up(), list(fleet.summary())) == ({1: True}, ["  worker 1: process 4711"])


async def test_a_worker_that_keeps_failing_is_said_to_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    nursery, pool = Nursery(), EncoderPool(RuntimeConfig())
    nursery.prepare = lambda worker: worker.end(1) if worker.number == 1 else None
    async with running(nursery, pool, workers=3) as fleet:
        await asyncio.wait_for(fleet.owner_is_loaded(), WAIT_S)
        async with asyncio.timeout(WAIT_S):
            while fleet.start_counts()[1] < 6:
                await asyncio.sleep(0.002)
        assert fleet.up() == {1: False, 2: True}
        assert fleet.start_counts()[2] == 1
    events = [(record.levelno, record.message) for record in caplog.records if record.name == fleet_module.__name__]
    assert events[:5] == [(logging.WARNING, "worker ended, another is started")] * 4 + [
        (logging.ERROR, "worker keeps failing")
    ]


async def test_a_process_that_cannot_be_started_fails_like_one_that_died() -> None:
    async def start(settings: WorkerSettings) -> WorkerProcess:
        raise OSError("no memory")

    fleet = Fleet(ServerConfig(workers=2, port=0), EncoderPool(RuntimeConfig()), start=start)
    fleet.prepare()
    fleet.start(1)
    await asyncio.wait_for(fleet.owner_is_loaded(), WAIT_S)
    assert list(fleet.summary()) == ["  worker 1: does not answer"]
    fleet.stop()
    assert await asyncio.wait_for(fleet.finish(0.0), WAIT_S)


async def test_a_worker_that_does_not_follow_is_replaced_by_one_that_stands_where_the_owner_does() -> None:
    nursery, pool = Nursery(), EncoderPool(RuntimeConfig())
    async with running(nursery, pool) as fleet:
        await asyncio.wait_for(fleet.owner_is_loaded(), WAIT_S)
        [worker] = nursery.workers
        worker.outcome = WorkerGone("it died")
        pool.roster.set_state("new", EncoderState(EncoderPhase.REFUSED))
        await asyncio.wait_for(fleet.keep_step(), WAIT_S)
        assert worker.exit_code.result() == -9
        another = await nursery.until(2)
        assert another.steps == [Step(encoders={}, states={"new": ("refused", "")})]
        assert another.settings.control_socket != worker.settings.control_socket


async def test_what_sets_a_worker_apart_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    nursery, pool = Nursery(), EncoderPool(RuntimeConfig())
    nursery.prepare = lambda worker: setattr(worker, "outcome", StepOutcome(apart={"words": "no memory"}))
    async with running(nursery, pool) as fleet:
        await asyncio.wait_for(fleet.owner_is_loaded(), WAIT_S)
        assert fleet.up() == {1: True}
    [record] = [record for record in caplog.records if record.message == "worker forwards what it could embed"]
    assert (record.__dict__["encoder"], record.__dict__["why"]) == ("words", "no memory")


async def test_workers_that_do_not_end_in_time_are_ended_and_told_of() -> None:
    nursery, pool = Nursery(), EncoderPool(RuntimeConfig())
    nursery.prepare = lambda worker: setattr(worker, "deaf", True)
    async with running(nursery, pool) as fleet:
        await asyncio.wait_for(fleet.owner_is_loaded(), WAIT_S)
        fleet.stop()
        assert await asyncio.wait_for(fleet.finish(0.0), WAIT_S) is False
        assert nursery.workers[0].exit_code.result() == -9
        assert fleet.start_counts() == {1: 1}


async def test_the_sockets_lie_in_a_folder_of_ones_own_and_go_with_the_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest's own folders have paths too long for a socket.
    with TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setattr("tempfile.tempdir", short)
        nursery = Nursery()
        async with running(nursery, EncoderPool(RuntimeConfig())) as fleet:
            await asyncio.wait_for(fleet.owner_is_loaded(), WAIT_S)
            folder = nursery.workers[0].settings.owner_socket.parent
            assert folder.parent == Path(short)
            assert folder.stat().st_mode & 0o777 == 0o700
        assert list(Path(short).iterdir()) == []


def test_a_folder_with_too_long_a_path_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    sockets = SocketFolder()
    assert sockets.owner.is_relative_to("/tmp")
    assert not sockets.owner.is_relative_to(long)
    assert list(long.iterdir()) == []
    sockets.remove()

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from serving.encoders.config import RuntimeConfig
from serving.workers.control import Step
from serving.workers.process import WorkerGone, WorkerProcess
from serving.workers.settings import WorkerSettings

NOTHING = Step(encoders={}, states={})


async def test_who_asks_a_worker_that_ends_meanwhile_is_told_and_not_cancelled(tmp_path: Path) -> None:
    settings = WorkerSettings(
        number=1,
        owner_socket=tmp_path / "owner.sock",
        control_socket=tmp_path / "worker.sock",
        host="127.0.0.1",
        port=0,
        bundles=tmp_path,
        tei_encoder=None,
        drain_timeout_s=1.0,
        runtime=RuntimeConfig(),
    )
    worker = WorkerProcess(await asyncio.create_subprocess_exec("cat", stdin=PIPE), settings)
    asked = asyncio.create_task(worker.keep_step(NOTHING, wait=True))  # it never listens
    await asyncio.sleep(0.05)
    assert not asked.done()
    await worker.close()
    with pytest.raises(WorkerGone):
        await asked
    with pytest.raises(WorkerGone, match="it has ended"):
        await worker.keep_step(NOTHING)
    assert await worker.wait() == -9

"""JobService: long work, followed and stopped."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from diptych.v1 import job_service_pb2 as pb
from diptych.v1 import job_service_pb2_grpc
from serving.backend import Backend
from serving.errors import Draining, InvalidInput
from serving.jobs.job import Job, JobState
from serving.rpc.draining import Drain
from serving.rpc.paging import key_of_token, page_size_of, token_of_key
from serving.rpc.status import status_of

__all__ = ["JobServicer", "job_to_wire"]

Context = aio.ServicerContext[Any, Any]

STATE_TO_WIRE = {
    JobState.PENDING: pb.JOB_STATE_PENDING,
    JobState.RUNNING: pb.JOB_STATE_RUNNING,
    JobState.SUCCEEDED: pb.JOB_STATE_SUCCEEDED,
    JobState.FAILED: pb.JOB_STATE_FAILED,
    JobState.CANCELLED: pb.JOB_STATE_CANCELLED,
}


class JobServicer(job_service_pb2_grpc.JobServiceServicer):
    """Answers over the backend's jobs.

    Args:
        backend: What it stands on.
        drain: When it begins, those who watch are let go.
    """

    def __init__(self, backend: Backend, drain: Drain) -> None:
        self._backend = backend
        self._drain = drain

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        """Gets a job as it stands."""
        return pb.GetJobResponse(job=await self._job(request.name))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        """Lists jobs, the newest first."""
        size, before = page_size_of(request.page_size), key_of_token(request.page_token)
        if before and not re.fullmatch("[0-9]{1,18}", before):
            raise InvalidInput("page_token is none that this server gave; take it from `next_page_token`")
        jobs = await self._backend.read(self._backend.jobs.list, before_number=int(before or 0), size=size + 1)
        token = token_of_key(str(jobs[size - 1].number)) if len(jobs) > size else ""
        return pb.ListJobsResponse(jobs=[job_to_wire(job) for job in jobs[:size]], next_page_token=token)

    async def WatchJob(self, request: pb.WatchJobRequest, context: Context) -> AsyncIterator[pb.WatchJobResponse]:
        """Sends the job now and at each change, until it has ended."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def on_change(job: Job) -> None:
            if job.name == request.name:
                loop.call_soon_threadsafe(changed.set)

        end_listening = self._backend.jobs.listen(on_change)
        begun = asyncio.create_task(self._drain.wait())
        try:
            last: pb.Job | None = None
            while True:
                changed.clear()
                job = await self._job(request.name)
                if job != last:
                    last = job
                    yield pb.WatchJobResponse(job=job)
                if job.HasField("end_time"):
                    return
                await self._wait(changed, begun)
        finally:
            begun.cancel()
            end_listening()

    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.CancelJobResponse:
        """Asks a job to stop at its next safe point."""
        job = await self._backend.write(self._backend.jobs.cancel, _name(request.name))
        return pb.CancelJobResponse(job=job_to_wire(job))

    async def _job(self, name: str) -> pb.Job:
        return job_to_wire(await self._backend.read(self._backend.jobs.get, _name(name)))

    @staticmethod
    async def _wait(changed: asyncio.Event, begun: asyncio.Task[None]) -> None:
        waiting = asyncio.create_task(changed.wait())
        try:
            await asyncio.wait({waiting, begun}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if begun.done():
            raise Draining("the server is shutting down; watch the job again in a moment")


def job_to_wire(job: Job) -> pb.Job:
    """Writes a job.

    Args:
        job: The job.

    Returns:
        The message.
    """
    message = pb.Job(
        name=job.name,
        kind=job.kind,
        subject=job.subject,
        state=STATE_TO_WIRE[job.state],
        done_count=job.done_count,
        total_count=job.total_count,
    )
    for field, moment in (
        (message.create_time, job.create_time),
        (message.start_time, job.start_time),
        (message.end_time, job.end_time),
    ):
        if moment is not None:
            _set_time(field, moment)
    if job.error is not None:
        message.error.CopyFrom(status_of(job.error))
    return message


def _set_time(field: Timestamp, moment: Any) -> None:
    field.FromDatetime(moment)


def _name(name: str) -> str:
    if not name:
        raise InvalidInput("name must be set: a job's name")
    return name

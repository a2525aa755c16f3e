"""Jobs: get, list, cancel."""

from __future__ import annotations

from datetime import UTC

from diptych.client.calls import Call, Operation
from diptych.client.errors import ClientError
from diptych.client.statuses import error_of_status
from diptych.client.types import Job
from diptych.v1 import job_service_pb2 as pb

__all__ = ["cancel_job", "get_job", "job_of", "list_jobs", "raise_if_failed"]


def get_job(name: str) -> Operation[Job]:
    """Gets a job as it stands."""
    reply = yield Call("JobService/GetJob", pb.GetJobRequest(name=name), pb.GetJobResponse)
    return job_of(reply.job)


def list_jobs() -> Operation[list[Job]]:
    """Lists the jobs, the newest first, page after page."""
    jobs: list[Job] = []
    token = ""
    while True:
        request = pb.ListJobsRequest(page_size=1_000, page_token=token)
        reply = yield Call("JobService/ListJobs", request, pb.ListJobsResponse)
        jobs.extend(job_of(message) for message in reply.jobs)
        token = reply.next_page_token
        if not token:
            return jobs


def cancel_job(name: str) -> Operation[Job]:
    """Asks a job to stop."""
    reply = yield Call("JobService/CancelJob", pb.CancelJobRequest(name=name), pb.CancelJobResponse)
    return job_of(reply.job)


def job_of(message: pb.Job) -> Job:
    """Reads a job.

    Args:
        message: From a reply.

    Returns:
        The job.
    """
    return Job(
        name=message.name,
        kind=message.kind,
        subject=message.subject,
        state=pb.JobState.Name(message.state).removeprefix("JOB_STATE_").lower()
        if message.state in pb.JobState.values()
        else "",
        done_count=message.done_count,
        total_count=message.total_count,
        create_time=message.create_time.ToDatetime(UTC),
        start_time=message.start_time.ToDatetime(UTC) if message.HasField("start_time") else None,
        end_time=message.end_time.ToDatetime(UTC) if message.HasField("end_time") else None,
        error=error_of_status(message.error) if message.HasField("error") else None,
    )


def raise_if_failed(job: Job) -> Job:
    """Returns a job that ended well.

    Args:
        job: One that has ended.

    Returns:
        The same.

    Raises:
        ClientError: Why it failed, or that it was cancelled.
    """
    if job.error is not None:
        raise job.error
    if job.state != "succeeded":
        raise ClientError(f"job '{job.name}' was {job.state}", code="CANCELLED")
    return job

"""The methods of `Client` for long work and snapshots."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from diptych.client.calls import Attempts, Call, Operation, RetryPolicy
from diptych.client.operations import jobs, snapshots
from diptych.client.statuses import error_of_rpc
from diptych.client.trace_context import trace_metadata
from diptych.client.transfer import DOWNLOAD, UPLOAD, Advance, DownloadFile, tell_nobody, upload_pieces
from diptych.client.types import Job, Snapshot
from diptych.v1 import job_service_pb2, snapshot_service_pb2

__all__ = ["SnapshotMethods"]

Result = TypeVar("Result")


class SnapshotMethods:
    """Part of `diptych.client.sync.Client`."""

    _channel: grpc.Channel
    _target: str
    _timeout_s: float
    _retries: RetryPolicy

    if TYPE_CHECKING:

        def _run(self, operation: Operation[Result]) -> Result: ...

    def jobs(self) -> list[Job]:
        """Returns the server's jobs, the newest first."""
        return self._run(jobs.list_jobs())

    def job(self, name: str) -> Job:
        """Returns a job as it stands."""
        return self._run(jobs.get_job(name))

    def cancel_job(self, name: str) -> Job:
        """Asks a job to stop; it ends as cancelled at its next safe point."""
        return self._run(jobs.cancel_job(name))

    def watch_job(self, name: str) -> Iterator[Job]:
        """Yields a job now and at each change, until it has ended; a broken stream is taken up again.

        Args:
            name: The job's.

        Yields:
            The job as it stands.

        Raises:
            ClientError: There is no such job, or no server.
        """
        request = job_service_pb2.WatchJobRequest(name=name)
        method: Any = self._channel.unary_stream(
            "/diptych.v1.JobService/WatchJob",
            request_serializer=job_service_pb2.WatchJobRequest.SerializeToString,
            response_deserializer=job_service_pb2.WatchJobResponse.FromString,
        )
        attempts = self._attempts(request)
        while True:
            call = method(request, metadata=trace_metadata())
            try:
                for reply in call:
                    attempts = self._attempts(request)
                    yield jobs.job_of(reply.job)
                return
            except grpc.RpcError as error:
                failure = error_of_rpc(error, self._target)
            finally:
                call.cancel()
            time.sleep(attempts.pause_after(failure))

    def wait_for_job(self, name: str, *, on_change: Callable[[Job], None] | None = None) -> Job:
        """Returns a job once it has ended well, however long that takes.

        Args:
            name: The job's.
            on_change: Told of each change.

        Returns:
            The job.

        Raises:
            ClientError: Why it failed, or that it was cancelled.
        """
        job = self.job(name)
        for job in self.watch_job(name):
            if on_change is not None:
                on_change(job)
        return jobs.raise_if_failed(job)

    def create_snapshot(self, collection: str) -> Job:
        """Starts a snapshot of a collection; the job's subject is the snapshot's name."""
        return self._run(snapshots.create_snapshot(collection))

    def snapshot(self, name: str) -> Snapshot:
        """Returns a snapshot."""
        return self._run(snapshots.get_snapshot(name))

    def snapshots(self, collection: str = "") -> list[Snapshot]:
        """Returns a collection's snapshots, or all of them, the newest first."""
        return self._run(snapshots.list_snapshots(collection))

    def delete_snapshot(self, name: str) -> None:
        """Deletes a snapshot."""
        self._run(snapshots.delete_snapshot(name))

    def restore_snapshot(self, name: str, collection: str) -> Job:
        """Starts a restore into a new collection."""
        return self._run(snapshots.restore_snapshot(name, collection))

    def download_snapshot(self, name: str, path: Path, *, on_progress: Advance = tell_nobody) -> Snapshot:
        """Downloads a snapshot into a file, and goes on with a download that broke, now or in a call before.

        Args:
            name: The snapshot's.
            path: A new file; there once it is whole and its checksum holds.
            on_progress: Told of the bytes done, and of all.

        Returns:
            The snapshot.

        Raises:
            ClientError: There is none of that name, or the server went away; a repeated call goes on.
            OSError: The file is there already, or cannot be written.
        """
        request = snapshot_service_pb2.GetSnapshotRequest(name=name)
        found = self._run(_describe(request))
        file = DownloadFile(path, found, on_progress)
        try:
            self._download(file)
            file.finish()
        finally:
            file.close()
        return snapshots.snapshot_of(found)

    def upload_snapshot(self, path: Path, name: str = "", *, on_progress: Advance = tell_nobody) -> Snapshot:
        """Uploads a file that `download_snapshot` made.

        Args:
            path: The file.
            name: What the snapshot shall be called; empty: as the file.
            on_progress: Told of the bytes sent, and of all.

        Returns:
            The snapshot, which the server has checked.

        Raises:
            ClientError: It is no snapshot, there is another of that name, or there is no room.
            OSError: The file cannot be read.
        """
        method: Any = self._channel.stream_unary(
            UPLOAD,
            request_serializer=snapshot_service_pb2.UploadSnapshotRequest.SerializeToString,
            response_deserializer=snapshot_service_pb2.UploadSnapshotResponse.FromString,
        )
        try:
            reply = method(upload_pieces(path, name, on_progress), metadata=trace_metadata())
        except grpc.RpcError as error:
            raise error_of_rpc(error, self._target) from None
        return snapshots.snapshot_of(reply.snapshot)

    def _download(self, file: DownloadFile) -> None:
        method: Any = self._channel.unary_stream(
            DOWNLOAD,
            request_serializer=snapshot_service_pb2.DownloadSnapshotRequest.SerializeToString,
            response_deserializer=snapshot_service_pb2.DownloadSnapshotResponse.FromString,
        )
        attempts = self._attempts(file.request())
        while True:
            before = file.offset_bytes
            call = method(file.request(), metadata=trace_metadata())
            try:
                for reply in call:
                    file.write(reply)
                return
            except grpc.RpcError as error:
                failure = error_of_rpc(error, self._target)
            finally:
                call.cancel()
            if file.offset_bytes > before:
                attempts = self._attempts(file.request())
            time.sleep(attempts.pause_after(failure))

    def _attempts(self, request: Any) -> Attempts:
        return Attempts(Call("", request, type(request)), self._retries, self._timeout_s)


def _describe(request: snapshot_service_pb2.GetSnapshotRequest) -> Operation[snapshot_service_pb2.Snapshot]:
    reply = yield Call("SnapshotService/GetSnapshot", request, snapshot_service_pb2.GetSnapshotResponse)
    found: snapshot_service_pb2.Snapshot = reply.snapshot
    return found

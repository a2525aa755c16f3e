"""SnapshotService: copies of collections, made, kept, sent and taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

from grpc import aio

from diptych.v1 import snapshot_service_pb2 as pb
from diptych.v1 import snapshot_service_pb2_grpc
from serving.backend import Backend
from serving.collections.definition import check_name
from serving.errors import CollectionExists, CollectionNotFound, Corrupted, Draining, InvalidInput, Overloaded
from serving.rpc.draining import Drain
from serving.rpc.job_service import job_to_wire
from serving.rpc.paging import key_of_token, page_size_of, token_of_key
from serving.snapshots.manifest import SnapshotInfo
from serving.snapshots.restore import RestoreSnapshot
from serving.snapshots.take import TakeSnapshot
from serving.snapshots.upload import Upload
from serving.telemetry.call import note_call

__all__ = ["SnapshotServicer"]

Context = aio.ServicerContext[Any, Any]

MAX_UPLOADS = 2
"""Uploads at a time; each holds room on the disk."""
RETRY_UPLOAD_S = 10.0


class SnapshotServicer(snapshot_service_pb2_grpc.SnapshotServiceServicer):
    """Answers over the backend's snapshots.

    Args:
        backend: What it stands on.
        drain: When it begins, downloads and uploads end; a download goes on elsewhere, or later, where it stopped.
    """

    def __init__(self, backend: Backend, drain: Drain) -> None:
        self._backend = backend
        self._drain = drain
        self._uploads = asyncio.Semaphore(MAX_UPLOADS)

    async def CreateSnapshot(self, request: pb.CreateSnapshotRequest, context: Context) -> pb.CreateSnapshotResponse:
        """Starts a snapshot."""
        self._backend.collection(request.collection)
        name = self._backend.snapshots.new_name(request.collection, datetime.now(UTC))
        kind = TakeSnapshot(snapshot=name, collection=request.collection)
        job = await self._backend.write(self._backend.jobs.submit, kind)
        return pb.CreateSnapshotResponse(job=job_to_wire(job))

    async def GetSnapshot(self, request: pb.GetSnapshotRequest, context: Context) -> pb.GetSnapshotResponse:
        """Gets a snapshot."""
        info = await self._backend.read(self._backend.snapshots.get, request.name)
        return pb.GetSnapshotResponse(snapshot=snapshot_to_wire(info))

    async def ListSnapshots(self, request: pb.ListSnapshotsRequest, context: Context) -> pb.ListSnapshotsResponse:
        """Lists snapshots, the newest first."""
        infos = await self._backend.read(self._backend.snapshots.list)
        wanted = [info for info in infos if request.collection in ("", info.collection)]
        size, after = page_size_of(request.page_size), key_of_token(request.page_token)
        rest = [info for info in wanted if not after or _order(info) < after]
        token = token_of_key(_order(rest[size - 1])) if len(rest) > size else ""
        return pb.ListSnapshotsResponse(
            snapshots=[snapshot_to_wire(info) for info in rest[:size]], next_page_token=token
        )

    async def DeleteSnapshot(self, request: pb.DeleteSnapshotRequest, context: Context) -> pb.DeleteSnapshotResponse:
        """Deletes a snapshot."""
        await self._backend.write(self._backend.snapshots.delete, request.name)
        return pb.DeleteSnapshotResponse()

    async def RestoreSnapshot(self, request: pb.RestoreSnapshotRequest, context: Context) -> pb.RestoreSnapshotResponse:
        """Starts a restore into a new collection."""
        check_name(request.collection)
        await self._backend.read(self._backend.snapshots.get, request.name)
        self._check_free(request.collection)
        note_call(collection=request.collection)
        kind = RestoreSnapshot(snapshot=request.name, collection=request.collection)
        job = await self._backend.write(self._backend.jobs.submit, kind)
        return pb.RestoreSnapshotResponse(job=job_to_wire(job))

    async def DownloadSnapshot(
        self, request: pb.DownloadSnapshotRequest, context: Context
    ) -> AsyncIterator[pb.DownloadSnapshotResponse]:
        """Streams a snapshot's bytes, from any of them on."""
        store, offset = self._backend.snapshots, request.offset_bytes
        opened = store.open(request.name)
        info, reader = await self._backend.read(opened.__enter__)
        try:
            if not 0 <= offset <= info.size_bytes:
                raise InvalidInput(
                    f"offset_bytes ({offset}) must be in [0, {info.size_bytes}], the snapshot's size",
                    offset_bytes=offset,
                )
            pieces: Iterator[bytes] = reader.pieces(offset)
            yield pb.DownloadSnapshotResponse(snapshot=snapshot_to_wire(info))
            while piece := await self._backend.read(next, pieces, b""):
                yield pb.DownloadSnapshotResponse(data=piece)
                if self._drain.begun:
                    raise Draining("the server is shutting down; go on with the download later, at the next byte")
        finally:
            await self._backend.read(opened.__exit__, None, None, None)

    async def UploadSnapshot(
        self, request_iterator: AsyncIterator[pb.UploadSnapshotRequest], context: Context
    ) -> pb.UploadSnapshotResponse:
        """Takes a snapshot's bytes and keeps them once their checksum holds."""
        if self._uploads.locked():
            raise Overloaded(
                f"{MAX_UPLOADS} snapshots are being uploaded already; try again later", retry_after_s=RETRY_UPLOAD_S
            )
        async with self._uploads:
            requests = self._drain.read_until_begun(aiter(request_iterator))
            first = await anext(requests, None)
            if first is None or not first.HasField("snapshot"):
                raise InvalidInput("the first piece must describe the snapshot")
            told = first.snapshot
            upload = await self._backend.write(
                Upload, self._backend.snapshots, told.name, size_bytes=told.size_bytes, sha256=told.sha256
            )
            try:
                await self._backend.write(upload.feed, first.data)
                async for request in requests:
                    await self._backend.write(upload.feed, request.data)
                info = await self._backend.write(upload.finish)
            finally:
                await asyncio.shield(self._backend.write(upload.close))
        return pb.UploadSnapshotResponse(snapshot=snapshot_to_wire(info))

    def _check_free(self, collection: str) -> None:
        try:
            self._backend.collection(collection)
        except CollectionNotFound:
            return
        except Corrupted:
            pass
        raise CollectionExists(
            f"there is a collection {collection!r} already; delete it or choose another name", collection=collection
        )


def snapshot_to_wire(info: SnapshotInfo) -> pb.Snapshot:
    """Writes a snapshot.

    Args:
        info: The snapshot.

    Returns:
        The message.
    """
    message = pb.Snapshot(
        name=info.name,
        collection=info.collection,
        sequence=info.sequence,
        record_count=info.record_count,
        size_bytes=info.size_bytes,
        sha256=info.sha256,
    )
    message.create_time.FromDatetime(info.create_time)
    return message


def _order(info: SnapshotInfo) -> str:
    """Returns what sorts as `SnapshotStore.list` does, from its end."""
    return f"{info.create_time.isoformat(timespec='microseconds')} {info.name}"

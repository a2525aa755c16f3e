"""Snapshots: create, get, list, delete, restore."""

from __future__ import annotations

from datetime import UTC

from diptych.client.calls import Call, Operation
from diptych.client.operations.jobs import job_of
from diptych.client.types import Job, Snapshot
from diptych.v1 import snapshot_service_pb2 as pb

__all__ = [
    "create_snapshot",
    "delete_snapshot",
    "get_snapshot",
    "list_snapshots",
    "restore_snapshot",
    "snapshot_of",
]


def create_snapshot(collection: str) -> Operation[Job]:
    """Starts a snapshot; the job's subject is its name."""
    # Not repeatable, as the next: a second try after a lost reply would start a second one.
    request = pb.CreateSnapshotRequest(collection=collection)
    reply = yield Call("SnapshotService/CreateSnapshot", request, pb.CreateSnapshotResponse, repeatable=False)
    return job_of(reply.job)


def restore_snapshot(name: str, collection: str) -> Operation[Job]:
    """Starts a restore into a new collection."""
    request = pb.RestoreSnapshotRequest(name=name, collection=collection)
    reply = yield Call("SnapshotService/RestoreSnapshot", request, pb.RestoreSnapshotResponse, repeatable=False)
    return job_of(reply.job)


def get_snapshot(name: str) -> Operation[Snapshot]:
    """Gets a snapshot."""
    reply = yield Call("SnapshotService/GetSnapshot", pb.GetSnapshotRequest(name=name), pb.GetSnapshotResponse)
    return snapshot_of(reply.snapshot)


def list_snapshots(collection: str) -> Operation[list[Snapshot]]:
    """Lists snapshots, the newest first, page after page."""
    snapshots: list[Snapshot] = []
    token = ""
    while True:
        request = pb.ListSnapshotsRequest(collection=collection, page_size=1_000, page_token=token)
        reply = yield Call("SnapshotService/ListSnapshots", request, pb.ListSnapshotsResponse)
        snapshots.extend(snapshot_of(message) for message in reply.snapshots)
        token = reply.next_page_token
        if not token:
            return snapshots


def delete_snapshot(name: str) -> Operation[None]:
    """Deletes a snapshot."""
    request = pb.DeleteSnapshotRequest(name=name)
    yield Call("SnapshotService/DeleteSnapshot", request, pb.DeleteSnapshotResponse, repeatable=False)


def snapshot_of(message: pb.Snapshot) -> Snapshot:
    """Reads a snapshot.

    Args:
        message: From a reply.

    Returns:
        The snapshot.
    """
    return Snapshot(
        name=message.name,
        collection=message.collection,
        sequence=message.sequence,
        record_count=message.record_count,
        size_bytes=message.size_bytes,
        sha256=message.sha256,
        create_time=message.create_time.ToDatetime(UTC),
    )

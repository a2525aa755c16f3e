from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import apsw
import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from diptych.client.sync import Client
from serving.collections.config import CollectionsConfig
from tests.serving.running_server import running_server

VECTORS = np.eye(3, dtype=np.float32)


def wait_for_status(address: str, status: int) -> None:
    request = health_pb2.HealthCheckRequest(service="collection/notes")
    deadline = time.monotonic() + 60
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        while stub.Check(request).status != status:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_collection_with_a_damaged_record_does_not_serve_until_it_is_written_anew(tmp_path: Path) -> None:
    config = CollectionsConfig(scrub_bytes_per_s=2**40)
    with running_server(tmp_path, []) as running, Client(running.address) as client:
        client.create_collection("notes", dimension=3)
        client.upsert("notes", ["a", "b", "c"], vectors=VECTORS)
        wait_for_status(running.address, health_pb2.HealthCheckResponse.SERVING)
    (path,) = (tmp_path / "data").glob("collections/notes.*/records.sqlite")
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE records SET metadata = x'00' WHERE key = 2")
    connection.close()
    with running_server(tmp_path, [], collections=config) as running, Client(running.address) as client:
        wait_for_status(running.address, health_pb2.HealthCheckResponse.NOT_SERVING)
        client.upsert("notes", ["b"], vectors=VECTORS[1:2])
        wait_for_status(running.address, health_pb2.HealthCheckResponse.SERVING)

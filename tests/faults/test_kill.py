"""A real server under the mixed load of four clients, killed at any moment: what it acknowledged is there."""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from diptych.client.metadata import metadata_of_values
from diptych.client.tensors import tensor_of_vectors
from diptych.v1 import collection_pb2, collection_service_pb2_grpc, search_service_pb2_grpc
from diptych.v1 import collection_service_pb2 as pb
from tests.faults.client import COLLECTION, COUNTER, DIMENSION, Stored, WritingClient, read_all, vector_of
from tests.faults.zygote import Zygote, zygote

CLIENTS = 4
ROUNDS = 220
MOST_CALLS = 120
"""Of all clients in one round."""


def create(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = collection_service_pb2_grpc.CollectionServiceStub(channel)
        stub.CreateCollection(
            pb.CreateCollectionRequest(collection=collection_pb2.Collection(name=COLLECTION, dimension=DIMENSION))
        )
        stub.UpsertRecords(
            pb.UpsertRecordsRequest(
                collection=COLLECTION,
                records=[pb.RecordWrite(id=COUNTER, metadata=metadata_of_values({"seed": 0, "n": 0}))],
                vectors=tensor_of_vectors(np.stack([vector_of(COUNTER, 0)])),
            )
        )


def write_and_kill(server: Zygote, address: str, clients: list[WritingClient], rng: random.Random) -> None:
    """Lets all clients write, and kills the server after some calls and some milliseconds more."""
    enough = sum(client.acknowledged for client in clients) + rng.randrange(MOST_CALLS)
    failures: list[BaseException] = []

    def write(client: WritingClient) -> None:
        try:
            client.write(address)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while sum(client.acknowledged for client in clients) < enough and not failures:
        assert time.monotonic() < deadline, "the server took no writes for a minute"
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.02))
    server.kill()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def check(address: str, clients: list[WritingClient]) -> None:
    """Compares what is stored with what each client knows, lets them repeat what was pending, and compares again."""
    with grpc.insecure_channel(address) as channel:
        stub = collection_service_pb2_grpc.CollectionServiceStub(channel)
        search = search_service_pb2_grpc.SearchServiceStub(channel)
        found = read_all(stub, search)
        for client in clients:
            client.resolve(stub, {name: one for name, one in found.items() if client.mine(name)})
        found = read_all(stub, search)
    count = sum(client.increments for client in clients)
    expected = {name: one for client in clients for name, one in client.records.items()}
    assert found == {**expected, COUNTER: Stored(0, count, found[COUNTER].version)}


def run_rounds(folder: Path, rounds: int, seed: int) -> int:
    """Returns how many calls were acknowledged."""
    rng = random.Random(seed)
    clients = [WritingClient(number, seed * CLIENTS + number) for number in range(CLIENTS)]
    with zygote(folder) as server:
        address = server.start()
        create(address)
        for _ in range(rounds):
            write_and_kill(server, address, clients, rng)
            address = server.start()
            check(address, clients)
        assert "out of service" not in (folder / "server.log").read_text()
    return sum(client.acknowledged for client in clients)


def test_a_few_kills_lose_nothing_acknowledged(tmp_path: Path) -> None:
    assert run_rounds(tmp_path, rounds=4, seed=1) > 4


@pytest.mark.slow
def test_many_kills_lose_nothing_acknowledged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("FAULT_SEED", time.time_ns() % 1_000_000))
    with capsys.disabled():
        print(f"\n{ROUNDS} rounds, FAULT_SEED={seed}", flush=True)
    assert run_rounds(tmp_path, ROUNDS, seed) > ROUNDS

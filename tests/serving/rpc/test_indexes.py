from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from diptych.client.errors import InvalidArgumentError
from diptych.client.sync import Client
from diptych.client.types import Collection, Index
from diptych.v1 import collection_pb2, collection_service_pb2, collection_service_pb2_grpc
from serving.collections.config import CollectionsConfig
from tests.serving.running_server import running_server

VECTORS = np.random.default_rng(0).standard_normal((1_000, 32)).astype(np.float32)
IDS = [f"r{row}" for row in range(len(VECTORS))]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = CollectionsConfig(search_threads=1, build_threads=1, recall_cpu_share=0.5, scrub_bytes_per_s=2**40)
    with running_server(tmp_path_factory.mktemp("server"), [], collections=config) as running:
        yield running.address


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client
        for collection in client.collections():
            client.delete_collection(collection.name)


def wait_for(client: Client, active: str) -> Collection:
    deadline = time.monotonic() + 60
    while True:
        found = client.collection("notes")
        if found.index_status.active == active and found.index_status.build_progress is None:
            return found
        assert time.monotonic() < deadline, found.index_status
        time.sleep(0.02)


def ids_of(client: Client) -> list[list[str]]:
    return [list(client.search("notes", vector=query, k=5).ids) for query in VECTORS[:5]]


def test_an_index_is_what_was_asked_for_and_can_become_another(client: Client) -> None:
    wanted = Index(structure="ivf", quantiser="sq8", lists=20, probes=20)
    made = client.create_collection("notes", dimension=32, index=wanted)
    assert (made.index, made.active_index, made.index_status.active) == ("ivf", "exact", "exact")
    assert made.index_status.reason == "exact: 0 records are fewer than the 1,000 from which an index pays"
    client.upsert("notes", IDS, vectors=VECTORS)

    status = wait_for(client, "IVF20,SQ8").index_status
    assert (status.indexed_count, status.probes, status.rerank_factor) == (1_000, 20, 1.5)
    assert status.indexed_count + status.tail_count == 1_000
    assert 40 < status.bytes_per_vector < 48
    assert status.reason == "IVF20,SQ8: as asked for"
    before = ids_of(client)
    assert [ids[0] for ids in before] == IDS[:5]

    # Search settings change at once, without a build.
    client.update_collection("notes", index=Index(structure="ivf", quantiser="sq8", lists=20, probes=3))
    assert client.collection("notes").index_status.probes == 3

    changed = client.update_collection("notes", index=Index(structure="hnsw", quantiser="rabitq", ef_search=200))
    assert changed.index == "hnsw"
    status = wait_for(client, "HNSW32,RaBitQ").index_status
    assert (status.indexed_count, status.ef_search, status.probes) == (1_000, 200, 0)
    assert ids_of(client) == before

    client.update_collection("notes", index="exact")
    assert wait_for(client, "exact").index_status.reason == (
        "exact: 1,000 records are fewer than the 20,000 from which an index pays"
    )
    assert ids_of(client) == before


def test_what_cannot_be_built_is_invalid_argument(client: Client) -> None:
    for index, message in (
        (Index(structure="hnsw", hnsw_m=500), r"hnsw_m \(500\) must be in \[4, 128\]"),
        (Index(structure="ivf", quantiser="pq", pq_segments=5), "must divide the dimension"),
        (Index(structure="hnsw", quantiser="rabitq"), "choose ivf with rabitq, or hnsw with sq8"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            client.create_collection("notes", dimension=32, metric="inner_product", index=index)
    client.create_collection("notes", dimension=32)
    with pytest.raises(InvalidArgumentError, match="needs a structure"):
        client.update_collection("notes", index=Index(quantiser="sq8"))
    assert client.collection("notes").index == "auto"
    with pytest.raises(ValueError, match="quantiser"):
        client.update_collection("notes", index=Index(structure="ivf", quantiser="sq9"))


def test_the_old_word_and_the_new_message_agree(client: Client, address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = collection_service_pb2_grpc.CollectionServiceStub(channel)
        collection = collection_pb2.Collection(name="notes", dimension=32, index_kind=collection_pb2.INDEX_KIND_HNSW)
        made = stub.CreateCollection(collection_service_pb2.CreateCollectionRequest(collection=collection)).collection
        assert made.index.structure == collection_pb2.INDEX_STRUCTURE_HNSW
        assert made.index_kind == collection_pb2.INDEX_KIND_HNSW
        unknown = collection_pb2.IndexSpecification(structure=99)  # type: ignore[arg-type]  # of a later version
        other = collection_pb2.Collection(name="other", dimension=32, index=unknown)
        with pytest.raises(grpc.RpcError, match=r"index structure \(99\) is none that this server knows"):
            stub.CreateCollection(collection_service_pb2.CreateCollectionRequest(collection=other))


def test_recall_is_told_by_the_collection_and_the_metrics(client: Client) -> None:
    client.create_collection("notes", dimension=32, index=Index(structure="ivf", lists=20, probes=20))
    client.upsert("notes", IDS, vectors=VECTORS)
    wait_for(client, "IVF20,SQ8")
    for query in VECTORS[:20]:
        client.search("notes", vector=query, k=10)
    deadline = time.monotonic() + 60
    while (recall := client.collection("notes").index_status.recall) is None or recall.query_count < 20:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert recall.low < recall.recall <= recall.high <= 1
    assert recall.recall >= 0.98
    metrics = client.metrics()
    assert f'diptych_collection_recall{{collection="notes"}} {recall.recall}' in metrics
    assert 'diptych_collection_recall_queries{collection="notes"} 20.0' in metrics
    assert 'diptych_collection_indexed_records{collection="notes"} 1000.0' in metrics


def test_a_data_folder_with_an_index_in_detail_is_opened_again(tmp_path: Path) -> None:
    for _ in range(2):
        with running_server(tmp_path, []) as running, Client(running.address) as client:
            if not client.collections():
                client.create_collection(
                    "notes", dimension=32, index=Index(structure="ivf", quantiser="pq", pq_segments=4)
                )
            assert client.collection("notes").index == "ivf"

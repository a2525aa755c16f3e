from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from diptych.client.sync import Client
from models.bundle.encoder import Modality
from tests.serving.fake_encoders import FakeEncoder
from tests.serving.running_server import RunningServer, running_server


@pytest.fixture(scope="module")
def words() -> FakeEncoder:
    return FakeEncoder("words")


@pytest.fixture(scope="module")
def pictures() -> FakeEncoder:
    return FakeEncoder("pictures", Modality.IMAGE)


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, words: FakeEncoder, pictures: FakeEncoder
) -> Iterator[RunningServer]:
    """One server a module; tests leave it without collections."""
    with running_server(tmp_path_factory.mktemp("server"), [words, pictures], metrics_port=0) as running:
        yield running


@pytest.fixture
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as channel:
        yield channel


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client
        for collection in client.collections():
            client.delete_collection(collection.name)

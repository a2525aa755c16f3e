"""Several versions of one encoder on one server, by name, by reference and by alias, over the wire."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from diptych.client.errors import InvalidArgumentError, NotFoundError, PreconditionError
from diptych.client.sync import Client
from serving.config import ServerConfig
from tests.serving.fake_encoders import FakeEncoder, FakeLoader, write_bundle
from tests.serving.rpc.protocols.calls import call
from tests.serving.running_server import RunningServer

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    loader = FakeLoader()
    for version in ("9", "10"):
        write_bundle(tmp_path / "bundles", f"words-{version}")
        loader.encoders[f"words-{version}"] = FakeEncoder("words", version=version, space=f"space {version}")
    running = RunningServer(ServerConfig(bundles=tmp_path / "bundles", data=tmp_path / "data", port=0), loader)
    yield running
    running.close()


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


def space(client: Client, name: str) -> str:
    return client.embed(["a"], encoder=name).space


def test_a_name_means_the_newest_and_a_reference_one(client: Client) -> None:
    assert [space(client, name) for name in ("words", "words@9", "words@10")] == ["space 10", "space 9", "space 10"]
    assert client.embed(["a"]).space == "space 10"
    listed = [(one.name, one.version, one.aliases) for one in client.encoders()]
    assert listed == [("words", "10", ("words",)), ("words", "9", ())]
    assert client.encoder("words").version == "10"
    assert client.encoder("words@9").version == "9"


def test_an_alias_is_set_moved_listed_and_removed(client: Client) -> None:
    assert client.set_encoder_alias("live", "words@9").version == "9"
    assert space(client, "live") == "space 9"
    assert client.encoder("live").aliases == ("live",)
    client.set_encoder_alias("live", "words")
    assert space(client, "live") == "space 10"
    client.delete_encoder_alias("live")
    with pytest.raises(NotFoundError):
        space(client, "live")
    with pytest.raises(NotFoundError, match="there is no alias 'live'"):
        client.delete_encoder_alias("live")
    with pytest.raises(InvalidArgumentError, match="must be 1 to 63"):
        client.set_encoder_alias("Live!", "words")


def test_a_collection_asks_the_version_of_its_space_whatever_the_name_means_by_now(client: Client) -> None:
    client.create_collection("old", encoder="words@9")
    client.create_collection("new", encoder="words")
    for name in ("old", "new"):
        client.upsert(name, ["a", "b"], texts=["a river", "a singer"])
        assert [id for id, _ in client.search(name, text="a river", k=1)] == ["a"]
    assert (client.collection("old").encoder, client.collection("old").space) == ("words", "space 9")
    client.unload_encoder("words@9")
    with pytest.raises(PreconditionError, match="vectors of two spaces cannot be compared"):
        client.search("old", text="a river")


def test_health_knows_every_name(server: RunningServer, client: Client) -> None:
    client.set_encoder_alias("live", "words@9")
    with grpc.insecure_channel(server.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)

        def status(name: str) -> int:
            return int(health.Check(health_pb2.HealthCheckRequest(service=f"encoder/{name}")).status)

        assert [status(name) for name in ("words", "words@9", "words@10", "live")] == [SERVING] * 4
        client.unload_encoder("words@9")
        assert [status(name) for name in ("words", "words@10", "live")] == [SERVING, SERVING, NOT_SERVING]
        with pytest.raises(grpc.RpcError) as caught:
            status("words@9")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_the_open_inference_protocol_asks_for_a_version(server: RunningServer) -> None:
    with grpc.insecure_channel(server.address) as channel:

        def ask(**fields: str) -> tuple[str, list[str]]:
            found = call(channel, "inference.GRPCInferenceService", "ModelMetadata", **fields)
            return found.properties["space"], list(found.versions)

        assert ask(name="words") == ("space 10", ["10", "9"])
        assert ask(name="words", version="9") == ("space 9", ["10", "9"])
        with pytest.raises(grpc.RpcError) as caught:
            ask(name="words", version="8")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND

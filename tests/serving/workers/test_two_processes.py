"""Both processes of a server answer alike, whichever a connection meets."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from typing import Any, cast

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

from diptych.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    collection_pb2,
    collection_service_pb2,
    collection_service_pb2_grpc,
    embedding_pb2,
    encoder_service_pb2,
    encoder_service_pb2_grpc,
    search_service_pb2,
    search_service_pb2_grpc,
)
from models.bundle.encoder import Purpose
from models.bundle.load import load_bundle
from tests.serving.rpc.protocols.calls import call
from tests.serving.workers.fleet_server import (
    TEXTS,
    WAIT_S,
    FleetServer,
    embed,
    fleet_server,
    metrics_of,
    one_channel_each,
)

OWNER, WORKER = 0, 1
WHERE = pytest.mark.parametrize("where", [OWNER, WORKER], ids=["owner", "worker"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetServer]:
    with fleet_server(tmp_path_factory.mktemp("fleet"), "--metrics-port", "0") as running:
        yield running
        assert running.stop() == 0, running.log
        assert running.lines[-1] == "stopped\n"
        assert [path.name for path in running.folder.iterdir() if path.name.startswith("diptych-")] == []


@pytest.fixture(scope="module")
def each(server: FleetServer) -> Iterator[list[grpc.Channel]]:
    """A connection to the owner and one to the worker."""
    with one_channel_each(server) as channels:
        yield channels


def expected(server: FleetServer) -> bytes:
    [encoder] = load_bundle(server.folder / "bundles" / "words", threads=1).encoders.values()
    return encoder.run([encoder.prepare(text, purpose=Purpose.DOCUMENT) for text in TEXTS]).astype("<f4").tobytes()


def batch_of(text: str) -> embedding_pb2.Input:
    return embedding_pb2.Input(text=text)


def test_each_process_answers_for_itself_with_what_a_single_one_gives(
    server: FleetServer, each: list[grpc.Channel]
) -> None:
    before = server.embedded_by()
    for channel in each:
        np.testing.assert_allclose(
            np.frombuffer(embed(channel, list(TEXTS)), "<f4"), np.frombuffer(expected(server), "<f4"), atol=1e-6
        )
    after = server.embedded_by()
    assert {number: after[number] - before[number] for number in after} == {"0": 1, "1": 1}


@WHERE
def test_a_stream_is_embedded_in_order(each: list[grpc.Channel], where: int) -> None:
    requests = (
        encoder_service_pb2.EmbedStreamRequest(
            batch=encoder_service_pb2.EmbedRequest(encoder="words", inputs=[batch_of(TEXTS[number % 3])])
        )
        for number in range(20)
    )
    replies = encoder_service_pb2_grpc.EncoderServiceStub(each[where]).EmbedStream(requests, timeout=WAIT_S)
    alone = [embed(each[where], [text]) for text in TEXTS]
    assert [reply.batch.vectors.data for reply in replies] == [alone[number % 3] for number in range(20)]


def test_records_written_through_one_are_found_through_the_other(each: list[grpc.Channel]) -> None:
    collections: Any = collection_service_pb2_grpc.CollectionServiceStub(each[WORKER])
    notes = collection_pb2.Collection(name="notes", encoder="words")
    collections.CreateCollection(collection_service_pb2.CreateCollectionRequest(collection=notes), timeout=WAIT_S)

    def batches() -> Iterator[collection_service_pb2.UpsertRecordsStreamRequest]:
        for number, text in enumerate(TEXTS):
            record = collection_service_pb2.RecordWrite(id=str(number), input=batch_of(text))
            batch = collection_service_pb2.UpsertRecordsRequest(collection="notes", records=[record])
            yield collection_service_pb2.UpsertRecordsStreamRequest(batch=batch)

    acknowledged = list(collections.UpsertRecordsStream(batches(), timeout=WAIT_S))
    assert [reply.batch_index for reply in acknowledged] == [0, 1, 2]
    assert [reply.outcome.sequence for reply in acknowledged] == [1, 2, 3]
    query = search_service_pb2.Query(input=batch_of("stars"))
    request = search_service_pb2.SearchRequest(collection="notes", query=query)
    for channel in each:
        found = search_service_pb2_grpc.SearchServiceStub(channel).Search(request, timeout=WAIT_S)
        assert found.neighbours.ids[0] == "1"
        assert len(found.neighbours.ids) == len(TEXTS)


@WHERE
def test_an_error_keeps_its_status_and_details(each: list[grpc.Channel], where: int) -> None:
    collections = collection_service_pb2_grpc.CollectionServiceStub(each[where])
    with pytest.raises(grpc.RpcError) as caught:
        collections.GetCollection(collection_service_pb2.GetCollectionRequest(name="nobody"), timeout=WAIT_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    status = rpc_status.from_call(cast(grpc.Call, caught.value))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain, info.metadata["collection"]) == ("COLLECTION_NOT_FOUND", "diptych", "nobody")


@WHERE
def test_a_large_message_passes(each: list[grpc.Channel], where: int) -> None:
    health: Any = health_pb2_grpc.HealthStub(each[where])
    with pytest.raises(grpc.RpcError, match="no service, encoder or collection is known as 'xxx") as caught:
        health.Check(health_pb2.HealthCheckRequest(service="x" * (16 << 20)), timeout=WAIT_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@WHERE
def test_health_and_reflection_are_told(each: list[grpc.Channel], where: int) -> None:
    health: Any = health_pb2_grpc.HealthStub(each[where])
    serving = health_pb2.HealthCheckResponse.SERVING
    for name in ("", "encoder/words", "diptych.v1.SearchService"):
        assert health.Check(health_pb2.HealthCheckRequest(service=name), timeout=WAIT_S).status == serving
    watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=WAIT_S)
    assert next(watch).status == serving
    watch.cancel()
    services = set(ProtoReflectionDescriptorDatabase(each[where]).get_services())
    assert {"diptych.v1.SearchService", "grpc.health.v1.Health", "tei.v1.Embed"} <= services


@WHERE
def test_other_protocols_answer(server: FleetServer, each: list[grpc.Channel], where: int) -> None:
    vector = np.frombuffer(embed(each[where], ["stars"]), "<f4")
    np.testing.assert_array_equal(call(each[where], "tei.v1.Embed", "Embed", inputs="stars").embeddings, vector)
    service = "inference.GRPCInferenceService"
    assert call(each[where], service, "ModelReady", name="words").ready
    assert not call(each[where], service, "ModelReady", name="nobody").ready


def test_an_encoder_is_unloaded_and_loaded_everywhere(server: FleetServer, each: list[grpc.Channel]) -> None:
    def names() -> list[list[str]]:
        request = encoder_service_pb2.ListEncodersRequest()
        stubs = map(encoder_service_pb2_grpc.EncoderServiceStub, each)
        replies = [stub.ListEncoders(request, timeout=WAIT_S) for stub in stubs]
        return [[f"{one.name}:{one.state}:{one.state_message}" for one in reply.encoders] for reply in replies]

    everything = names()
    assert everything[OWNER] == everything[WORKER]
    broken = server.folder / "bundles" / "broken"
    broken.mkdir()
    (broken / "diptych.json").write_text("{}")
    for channel in reversed(each):
        admin = admin_service_pb2_grpc.AdminServiceStub(channel)
        admin.UnloadEncoder(admin_service_pb2.UnloadEncoderRequest(name="pictures"), timeout=WAIT_S)
        assert names() == [[one for one in everything[OWNER] if not one.startswith("pictures")]] * 2
        reply = admin.LoadEncoder(admin_service_pb2.LoadEncoderRequest(name="pictures"), timeout=WAIT_S)
        assert reply.encoder.name == "pictures"
        assert names() == everything
    with pytest.raises(grpc.RpcError, match="bundle 'broken' was refused"):
        admin.LoadEncoder(admin_service_pb2.LoadEncoderRequest(name="broken"), timeout=WAIT_S)
    refused = names()
    assert refused[OWNER] == refused[WORKER] != everything[OWNER]
    (broken / "diptych.json").unlink()


@WHERE
def test_metrics_tell_of_every_process(server: FleetServer, each: list[grpc.Channel], where: int) -> None:
    shown_by_http = re.search(r"metrics on (\S+)", server.log)
    assert shown_by_http is not None
    with urllib.request.urlopen(shown_by_http.group(1), timeout=WAIT_S) as page:
        exposition = page.read().decode() if where == OWNER else metrics_of(each[where])
    lines = exposition.splitlines()
    for number in (OWNER, WORKER):
        assert f'diptych_encoder_serving{{encoder="words@1",worker="{number}"}} 1.0' in lines
        assert any(line.startswith(f'process_cpu_seconds_total{{worker="{number}"}}') for line in lines)
    assert 'diptych_worker_up{worker="1"} 1.0' in lines
    assert 'diptych_worker_starts_total{worker="1"} 1.0' in lines

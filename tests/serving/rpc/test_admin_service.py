from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from diptych.client.errors import NotFoundError
from diptych.client.sync import Client
from serving.config import MAX_MESSAGE_BYTES
from tests.serving.running_server import RunningServer


def call_blindly(channel: grpc.Channel, method: Any) -> object:
    """Calls a method by its descriptor with an empty request."""
    request_type, reply_type = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    kinds: dict[tuple[bool, bool], Callable[..., Any]] = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }
    make = kinds[method.client_streaming, method.server_streaming]
    path = f"/{method.containing_service.full_name}/{method.name}"
    call = make(path, request_serializer=request_type.SerializeToString, response_deserializer=reply_type.FromString)
    reply = call(iter([request_type()]) if method.client_streaming else request_type(), timeout=10)
    return list(reply) if method.server_streaming else reply


EXPECTED_CODES = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
"""An empty request is refused for what it lacks, never for want of the method."""


def code_of_empty_call(channel: grpc.Channel, method: Any) -> grpc.StatusCode:
    try:
        call_blindly(channel, method)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def test_the_server_says_what_it_is_and_allows(client: Client) -> None:
    information = client.server()
    assert information.version == __import__("diptych").__version__
    assert information.limits["max_message_bytes"] == MAX_MESSAGE_BYTES
    assert information.limits["max_k"] == 10_000


def test_every_method_is_implemented(client: Client, channel: grpc.Channel) -> None:
    assert list(client.server().unimplemented_methods) == []
    pool = descriptor_pool.Default()
    for service in (
        "AdminService",
        "CollectionService",
        "EncoderService",
        "JobService",
        "SearchService",
        "SnapshotService",
    ):
        for method in pool.FindServiceByName(f"diptych.v1.{service}").methods:
            assert code_of_empty_call(channel, method) in EXPECTED_CODES, method.full_name


def test_reflection_tells_of_every_service(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) == {
        "diptych.v1.AdminService",
        "diptych.v1.CollectionService",
        "diptych.v1.EncoderService",
        "diptych.v1.JobService",
        "diptych.v1.SearchService",
        "diptych.v1.SnapshotService",
        "grpc.health.v1.Health",
        "inference.GRPCInferenceService",
        "tei.v1.Embed",
        "tei.v1.Info",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    pool = descriptor_pool.DescriptorPool(database)
    assert pool.FindMessageTypeByName("diptych.v1.Tensor").fields_by_name["row_scales"].number == 5


def test_a_message_over_the_limit_is_refused(server: RunningServer) -> None:
    with grpc.insecure_channel(server.address, options=[("grpc.max_send_message_length", -1)]) as channel:
        call: Any = channel.unary_unary("/diptych.v1.EncoderService/Embed")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\0" * (MAX_MESSAGE_BYTES + 1), timeout=30)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_defect_says_nothing_but_internal(
    server: RunningServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(server.server._pool.roster, "resolve", broken)
    with pytest.raises(Exception, match="the server failed; its log has the cause") as caught:
        client.embed(["a"])
    assert (getattr(caught.value, "code", ""), getattr(caught.value, "reason", "")) == ("INTERNAL", "INTERNAL")


def test_an_encoder_is_unloaded_and_loaded_again_while_the_other_answers(client: Client, server: RunningServer) -> None:
    client.unload_encoder("words")
    assert [encoder.name for encoder in client.encoders()] == ["pictures"]
    with pytest.raises(NotFoundError):
        client.embed(["a"], encoder="words")
    with pytest.raises(NotFoundError, match="no bundle named 'nobody' is under the bundles folder"):
        client.load_encoder("nobody")
    assert client.embed(images=[b"IMG"], encoder="pictures").vectors.shape == (1, 8)

    loaded = client.load_encoder("words")

    assert (loaded.name, loaded.state, loaded.dimension) == ("words", "serving", 8)
    assert client.embed(["a"], encoder="words").vectors.shape == (1, 8)

"""Encoders, and embedding with them."""

from __future__ import annotations

from collections.abc import Iterable

from diptych.client.arguments import EmbedOptions
from diptych.client.calls import Call, Operation
from diptych.client.chunks import chunk_slices
from diptych.client.replies import embeddings_of, encoder_of, server_information_of
from diptych.client.requests import embed_request, inputs_of
from diptych.client.types import Embeddings, Encoder, Image, ServerInformation
from diptych.v1 import admin_service_pb2, encoder_service_pb2

__all__ = [
    "delete_encoder_alias",
    "embed",
    "get_encoder",
    "get_metrics",
    "get_server",
    "list_encoders",
    "load_encoder",
    "set_encoder_alias",
    "unload_encoder",
]


def get_server() -> Operation[ServerInformation]:
    """Gets what the server is and allows."""
    reply = yield Call(
        "AdminService/GetServerInformation",
        admin_service_pb2.GetServerInformationRequest(),
        admin_service_pb2.GetServerInformationResponse,
    )
    return server_information_of(reply)


def get_metrics() -> Operation[str]:
    """Gets what the server has counted and timed."""
    request = admin_service_pb2.GetServerMetricsRequest()
    reply = yield Call("AdminService/GetServerMetrics", request, admin_service_pb2.GetServerMetricsResponse)
    return str(reply.exposition)


def list_encoders() -> Operation[list[Encoder]]:
    """Lists the encoders, page after page."""
    encoders: list[Encoder] = []
    token = ""
    while True:
        request = encoder_service_pb2.ListEncodersRequest(page_size=1_000, page_token=token)
        reply = yield Call("EncoderService/ListEncoders", request, encoder_service_pb2.ListEncodersResponse)
        encoders.extend(encoder_of(message) for message in reply.encoders)
        token = reply.next_page_token
        if not token:
            return encoders


def get_encoder(name: str) -> Operation[Encoder]:
    """Gets one encoder."""
    request = encoder_service_pb2.GetEncoderRequest(name=name)
    reply = yield Call("EncoderService/GetEncoder", request, encoder_service_pb2.GetEncoderResponse)
    return encoder_of(reply.encoder)


def load_encoder(name: str) -> Operation[Encoder]:
    """Loads an encoder, or swaps it for what its bundle holds now."""
    request = admin_service_pb2.LoadEncoderRequest(name=name)
    reply = yield Call("AdminService/LoadEncoder", request, admin_service_pb2.LoadEncoderResponse)
    return encoder_of(reply.encoder)


def unload_encoder(name: str) -> Operation[None]:
    """Unloads an encoder."""
    request = admin_service_pb2.UnloadEncoderRequest(name=name)
    yield Call("AdminService/UnloadEncoder", request, admin_service_pb2.UnloadEncoderResponse)


def set_encoder_alias(alias: str, encoder: str) -> Operation[Encoder]:
    """Points an alias at an encoder."""
    request = admin_service_pb2.SetEncoderAliasRequest(alias=alias, encoder=encoder)
    reply = yield Call("AdminService/SetEncoderAlias", request, admin_service_pb2.SetEncoderAliasResponse)
    return encoder_of(reply.encoder)


def delete_encoder_alias(alias: str) -> Operation[None]:
    """Removes an alias."""
    request = admin_service_pb2.DeleteEncoderAliasRequest(alias=alias)
    yield Call("AdminService/DeleteEncoderAlias", request, admin_service_pb2.DeleteEncoderAliasResponse)


def embed(texts: Iterable[str] | None, images: Iterable[Image] | None, options: EmbedOptions) -> Operation[Embeddings]:
    """Embeds texts or images, in as many calls as their bytes need.

    Args:
        texts: Texts, or None.
        images: Images, or None.
        options: How.

    Returns:
        The operation; its result is the whole batch.

    Raises:
        ValueError: There is nothing to embed.
    """
    inputs = inputs_of(texts, images)
    if not inputs:
        raise ValueError("there is nothing to embed: give at least one text or image")
    replies = []
    for run in chunk_slices([item.ByteSize() for item in inputs]):
        request = embed_request(inputs[run], options)
        replies.append((yield Call("EncoderService/Embed", request, encoder_service_pb2.EmbedResponse)))
    return embeddings_of(replies, allow_partial=options.get("allow_partial", False))

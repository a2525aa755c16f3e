"""Batches of an embedding stream, to the wire and back."""

from __future__ import annotations

from collections.abc import Sequence

from diptych.client.arguments import EmbedOptions
from diptych.client.replies import embeddings_of
from diptych.client.requests import embed_request, inputs_of
from diptych.client.statuses import error_of_status
from diptych.client.types import Embeddings, Image
from diptych.v1 import encoder_service_pb2

__all__ = ["embed_chunk", "read_embed_chunk"]


def embed_chunk(
    batch: Sequence[str] | Sequence[Image], options: EmbedOptions
) -> encoder_service_pb2.EmbedStreamRequest:
    """Returns one batch for the wire.

    Args:
        batch: Texts, or images.
        options: How to embed.

    Returns:
        The message.

    Raises:
        ValueError: The batch is empty, or mixes texts and images.
    """
    texts = [item for item in batch if isinstance(item, str)]
    images = [item for item in batch if not isinstance(item, str)]
    if bool(texts) == bool(images):
        raise ValueError("a batch must hold at least one item, and texts or images only")
    inputs = inputs_of(texts or None, images or None)
    return encoder_service_pb2.EmbedStreamRequest(batch=embed_request(inputs, options))


def read_embed_chunk(reply: encoder_service_pb2.EmbedStreamResponse, options: EmbedOptions) -> Embeddings:
    """Reads the reply to one batch.

    Args:
        reply: From the stream.
        options: How was embedded.

    Returns:
        The batch's vectors.

    Raises:
        ClientError: The batch failed as a whole, or one of its items did and `allow_partial` was not set.
    """
    if reply.WhichOneof("result") == "error":
        raise error_of_status(reply.error)
    return embeddings_of([reply.batch], allow_partial=options.get("allow_partial", False))

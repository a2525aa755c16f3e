"""EncoderService: turns texts and images into vectors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
from grpc import aio
from numpy.typing import NDArray

from diptych.v1 import encoder_service_pb2 as pb
from diptych.v1 import encoder_service_pb2_grpc, tensor_pb2
from serving.backend import Backend
from serving.collections.types import Metric
from serving.embedding import (
    EmbedOptions,
    check_output_dimension,
    embed,
    embed_patiently,
    modality_of,
    shorten,
)
from serving.encoders.pool import EncoderPool
from serving.encoders.request import EmbedOutcome
from serving.encoders.roster import Roster
from serving.encoders.state import EncoderPhase
from serving.errors import ServingError
from serving.rpc.enums import ENCODER_STATE_TO_WIRE, METRIC_TO_WIRE, MODALITY_TO_WIRE, purpose_from_wire, truncates
from serving.rpc.inputs import input_from_wire
from serving.rpc.limits import check_batch_size, check_reply_bytes
from serving.rpc.ordered import answer_in_order
from serving.rpc.paging import cut_page, key_of_token, page_size_of
from serving.rpc.stamps import deadline_of, stamp_of, timing_of
from serving.rpc.status import item_errors_to_wire, status_of
from serving.rpc.tensor import encode_vectors, encoded_bytes
from serving.telemetry.call import note_call

__all__ = ["EncoderServicer", "encoder_to_wire"]

Context = aio.ServicerContext[Any, Any]
Embedder = Callable[[EncoderPool, str, list[str | bytes], EmbedOptions], Awaitable[EmbedOutcome]]

VECTOR_BYTES = 4096
"""What a vector is taken to weigh with all that belongs to its input."""
INLINE_ELEMENTS = 65_536
"""Largest reply that is encoded on the event loop; larger ones would hold up health checks."""


class EncoderServicer(encoder_service_pb2_grpc.EncoderServiceServicer):
    """Answers over the backend's encoders.

    Args:
        backend: What it stands on.
    """

    def __init__(self, backend: Backend) -> None:
        self._pool = backend.pool

    async def ListEncoders(self, request: pb.ListEncodersRequest, context: Context) -> pb.ListEncodersResponse:
        """Lists what is under the bundles folder, whatever its state."""
        names = sorted(self._pool.roster.states())
        page, token = cut_page(names, str, size=page_size_of(request.page_size), after=key_of_token(request.page_token))
        return pb.ListEncodersResponse(encoders=[self._encoder(name) for name in page], next_page_token=token)

    async def GetEncoder(self, request: pb.GetEncoderRequest, context: Context) -> pb.GetEncoderResponse:
        """Gets one of them."""
        return pb.GetEncoderResponse(encoder=self._encoder(request.name))

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        """Embeds a batch; refuses at once where the queue is full."""
        return await _embed_batch(self._pool, request, deadline_of(context), embed)

    async def EmbedStream(
        self, request_iterator: AsyncIterator[pb.EmbedStreamRequest], context: Context
    ) -> AsyncIterator[pb.EmbedStreamResponse]:
        """Embeds batches as they come; waits where the queue is full."""
        deadline_s = deadline_of(context)

        async def answer(request: pb.EmbedStreamRequest) -> pb.EmbedStreamResponse:
            try:
                batch = await _embed_batch(self._pool, request.batch, deadline_s, embed_patiently)
            except ServingError as error:
                return pb.EmbedStreamResponse(error=status_of(error))
            return pb.EmbedStreamResponse(batch=batch)

        async for reply in answer_in_order(request_iterator, answer, weigh=_weight):
            yield reply

    def _encoder(self, name: str) -> pb.Encoder:
        return encoder_to_wire(self._pool.roster, name)


def encoder_to_wire(roster: Roster, name: str) -> pb.Encoder:
    """Writes an encoder.

    Args:
        roster: The encoders.
        name: Any name of it, or its bundle's folder while it does not serve.

    Returns:
        The message.

    Raises:
        NotReady: None of that name is known yet, and bundles are still being loaded.
        EncoderNotFound: There is none.
    """
    state = roster.state(name)
    encoder = pb.Encoder(name=name, state=ENCODER_STATE_TO_WIRE[state.phase], state_message=state.detail)
    if state.phase is EncoderPhase.SERVING:
        info = roster.resolve(name)
        encoder.MergeFrom(
            pb.Encoder(
                name=info.name,
                aliases=roster.aliases_of(info),
                version=info.version,
                modality=MODALITY_TO_WIRE[info.modality],
                dimension=info.dimension,
                metric=METRIC_TO_WIRE[Metric(info.metric)],
                space=info.space,
                fingerprint=info.fingerprint,
                precision=info.precision,
                max_tokens=info.max_tokens,
                image_size_px=info.image_size_px,
                truncatable_dimensions=info.truncatable_dimensions,
            )
        )
    return encoder


async def _embed_batch(
    pool: EncoderPool, request: pb.EmbedRequest, deadline_s: float | None, embedder: Embedder
) -> pb.EmbedResponse:
    note_call(items=len(request.inputs))
    check_batch_size(len(request.inputs), field="inputs")
    items = [input_from_wire(item, field=f"inputs[{index}]") for index, item in enumerate(request.inputs)]
    options = EmbedOptions(
        purpose=purpose_from_wire(request.purpose), truncate=truncates(request.truncation), deadline_s=deadline_s
    )
    info = pool.roster.resolve(request.encoder, modality_of(items))
    check_output_dimension(info, request.output_dimension)
    dimension = request.output_dimension or info.dimension
    check_reply_bytes(encoded_bytes(len(items), dimension, request.output_encoding))
    outcome = await embedder(pool, request.encoder or info.name, items, options)
    return pb.EmbedResponse(
        vectors=await _encode(outcome.vectors, request),
        item_errors=item_errors_to_wire(outcome.errors),
        token_counts=outcome.token_counts,
        truncated=outcome.truncated,
        encoder=stamp_of(outcome.info),
        timing=timing_of(outcome.queue_s, outcome.compute_s),
    )


def _weight(request: pb.EmbedStreamRequest) -> int:
    """Returns about the bytes that a batch of a stream takes: what it sent, and a float32 vector for each input."""
    return int(request.ByteSize()) + VECTOR_BYTES * len(request.batch.inputs)


async def _encode(vectors: NDArray[np.float32], request: pb.EmbedRequest) -> tensor_pb2.Tensor:
    def encode() -> tensor_pb2.Tensor:
        return encode_vectors(shorten(vectors, request.output_dimension), request.output_encoding)

    return encode() if vectors.size <= INLINE_ELEMENTS else await asyncio.to_thread(encode)

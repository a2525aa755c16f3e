"""The protocol of text-embeddings-inference: one encoder, one text a call, or a stream of them.

Vectors have unit length always: `normalize: false` is what older clients send who mean the default.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from grpc import aio

from diptych.version import __version__
from models.bundle.encoder import EncoderInfo, Modality, Purpose
from serving.backend import Backend
from serving.collections.config import MAX_BATCH_RECORDS
from serving.embedding import EmbedOptions, check_output_dimension, embed, embed_patiently, shorten
from serving.encoders.config import RuntimeConfig
from serving.encoders.pool import EncoderPool
from serving.encoders.request import EmbedOutcome
from serving.errors import InvalidInput
from serving.rpc.ordered import answer_in_order
from serving.rpc.protocols.descriptors import message_class
from serving.rpc.stamps import deadline_of
from serving.telemetry.call import note_call

__all__ = ["TeiServicer"]

Context = aio.ServicerContext[Any, Any]
# Messages of a pool of our own have no types.
Message = Any
Embedder = Callable[[EncoderPool, str, list[str | bytes], EmbedOptions], Awaitable[EmbedOutcome]]

VECTOR_BYTES = 8192
"""What a vector, sent as single floats, is taken to weigh with all that belongs to its text."""
_PURPOSES = {"": Purpose.DOCUMENT, "document": Purpose.DOCUMENT, "passage": Purpose.DOCUMENT, "query": Purpose.QUERY}


class TeiServicer:
    """Answers over one of the backend's text encoders.

    Args:
        backend: What it stands on.
        encoder: Which one; empty where there is only one.
        runtime: What `Info` tells of.
    """

    def __init__(self, backend: Backend, encoder: str, runtime: RuntimeConfig) -> None:
        self._pool = backend.pool
        self._encoder = encoder
        self._runtime = runtime

    def info_behaviours(self) -> Mapping[str, Callable[[Any, Any], Any]]:
        """Returns the methods of `tei.v1.Info`."""
        return {"Info": self._info}

    def embed_behaviours(self) -> Mapping[str, Callable[[Any, Any], Any]]:
        """Returns the methods of `tei.v1.Embed`."""
        return {"Embed": self._embed_one, "EmbedStream": self._embed_stream}

    async def _info(self, _request: Message, _context: Context) -> Message:
        """Describes the encoder and the limits."""
        info = self._find()
        runtime = self._runtime
        return message_class("tei.v1.InfoResponse")(
            version=__version__,
            model_id=info.name,
            model_sha=info.fingerprint,
            model_dtype="float32" if info.precision == "fp32" else info.precision,
            max_concurrent_requests=runtime.queue_tokens // max(1, info.max_tokens),
            max_input_length=info.max_tokens,
            max_batch_tokens=runtime.batch_tokens,
            max_client_batch_size=MAX_BATCH_RECORDS,
            tokenization_workers=runtime.prepare_threads,
        )

    async def _embed_one(self, request: Message, context: Context) -> Message:
        """Embeds a text; refuses at once where the queue is full."""
        reply = await self._embed(request, context, embed)
        await context.send_initial_metadata(_headers(reply.metadata))
        return reply

    async def _embed_stream(self, requests: AsyncIterator[Message], context: Context) -> AsyncIterator[Message]:
        """Embeds texts as they come, in their order; waits where the queue is full."""

        async def answer(request: Message) -> Message:
            return await self._embed(request, context, embed_patiently)

        async for reply in answer_in_order(requests, answer, weigh=_weight):
            yield reply

    def _find(self) -> EncoderInfo:
        return self._pool.roster.resolve(self._encoder, Modality.TEXT)

    async def _embed(self, request: Message, context: Context, embedder: Embedder) -> Message:
        start_s = time.monotonic()
        note_call(items=1)
        info = self._find()
        if not request.inputs:
            raise InvalidInput("inputs is empty; it must be a text")
        if request.truncation_direction:
            raise InvalidInput("truncation_direction must be right: texts are cut at their end", direction="left")
        if request.prompt_name not in _PURPOSES:
            named = ", ".join(name for name in _PURPOSES if name)
            raise InvalidInput(f"prompt_name ('{request.prompt_name}') must be one of {named}, or unset")
        check_output_dimension(info, request.dimensions)
        options = EmbedOptions(
            purpose=_PURPOSES[request.prompt_name], truncate=request.truncate, deadline_s=deadline_of(context)
        )
        outcome = await embedder(self._pool, self._encoder or info.name, [request.inputs], options)
        if outcome.errors:
            raise outcome.errors[0]
        [vector] = shorten(outcome.vectors, request.dimensions)
        # What it took beside queue and graph is preparing.
        total_s = time.monotonic() - start_s
        metadata = message_class("tei.v1.Metadata")(
            compute_chars=len(request.inputs),
            compute_tokens=outcome.token_counts[0],
            total_time_ns=round(total_s * 1e9),
            tokenization_time_ns=round(max(0.0, total_s - outcome.queue_s - outcome.compute_s) * 1e9),
            queue_time_ns=round(outcome.queue_s * 1e9),
            inference_time_ns=round(outcome.compute_s * 1e9),
        )
        return message_class("tei.v1.EmbedResponse")(embeddings=vector.tolist(), metadata=metadata)


def _weight(request: Message) -> int:
    return int(request.ByteSize()) + VECTOR_BYTES


def _headers(metadata: Message) -> tuple[tuple[str, str], ...]:
    """Returns what the original says in headers too; times in milliseconds."""
    times = {
        "x-total-time": metadata.total_time_ns,
        "x-tokenization-time": metadata.tokenization_time_ns,
        "x-queue-time": metadata.queue_time_ns,
        "x-inference-time": metadata.inference_time_ns,
    }
    return (
        ("x-compute-type", "cpu"),
        ("x-compute-time", str(metadata.total_time_ns // 1_000_000)),
        ("x-compute-characters", str(metadata.compute_chars)),
        ("x-compute-tokens", str(metadata.compute_tokens)),
        *((name, str(value // 1_000_000)) for name, value in times.items()),
    )

"""The client for asyncio: the methods of `Client`, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc
from grpc import aio

from diptych.client.aio_snapshots import AsyncSnapshotMethods
from diptych.client.arguments import (
    BatchSearchArguments,
    CollectionArguments,
    EmbedOptions,
    PartArguments,
    SearchArguments,
    UpsertArguments,
)
from diptych.client.calls import Attempts, Call, Operation, RetryPolicy
from diptych.client.channel import (
    CHANNEL_OPTIONS,
    DEFAULT_TARGET,
    DEFAULT_TIMEOUT_S,
    HEALTH_WATCH,
    health_is_serving,
)
from diptych.client.errors import ClientError
from diptych.client.filters import Filter
from diptych.client.operations import collections, encoders, records, search
from diptych.client.statuses import error_of_rpc
from diptych.client.streams import embed_chunk, read_embed_chunk
from diptych.client.trace_context import trace_metadata
from diptych.client.types import (
    Collection,
    DeleteResult,
    Embeddings,
    Encoder,
    Image,
    Index,
    MetadataValue,
    Neighbours,
    Record,
    ServerInformation,
    WriteResult,
)
from diptych.v1 import encoder_service_pb2

__all__ = ["AsyncClient"]

Result = TypeVar("Result")


class AsyncClient(AsyncSnapshotMethods):
    """Embeds, stores and searches on a diptych server, from asyncio.

        async with AsyncClient("127.0.0.1:50051") as client:
            found = await client.search("notes", text="the first", k=1)

    Args:
        target: `host:port` of the server.
        timeout_s: Deadline of one call in seconds, its retries included.
        credentials: For TLS; None connects in clear text.
        retries: When and how often failed calls are repeated.

    Arguments, results and errors are those of `diptych.client.sync.Client`.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        credentials: grpc.ChannelCredentials | None = None,
        retries: RetryPolicy | None = None,
    ) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._retries = retries or RetryPolicy()
        self._channel = (
            aio.insecure_channel(target, CHANNEL_OPTIONS)
            if credentials is None
            else aio.secure_channel(target, credentials, CHANNEL_OPTIONS)
        )
        self._methods: dict[str, Callable[..., Any]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls in flight are cancelled."""
        await self._channel.close()

    async def wait_until_ready(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Returns once the server is there and everything it is to serve is loaded."""
        watch: Any = self._channel.unary_stream(HEALTH_WATCH)
        call = watch(b"", timeout=timeout_s, wait_for_ready=True)
        try:
            async for reply in call:
                if health_is_serving(reply):
                    call.cancel()
                    return
        except aio.AioRpcError as error:
            raise error_of_rpc(error, self._target) from None

    async def server(self) -> ServerInformation:
        """Returns what the server is and what it allows."""
        return await self._run(encoders.get_server())

    async def metrics(self) -> str:
        """Returns what the server has counted and timed, in Prometheus's text format."""
        return await self._run(encoders.get_metrics())

    async def encoders(self) -> list[Encoder]:
        """Returns the server's encoders by name, whatever their state."""
        return await self._run(encoders.list_encoders())

    async def encoder(self, name: str) -> Encoder:
        """Returns one encoder."""
        return await self._run(encoders.get_encoder(name))

    async def load_encoder(self, name: str) -> Encoder:
        """Loads a bundle of the server's folder by the folder's name, or swaps its encoder for what it holds now."""
        return await self._run(encoders.load_encoder(name))

    async def unload_encoder(self, name: str) -> None:
        """Takes an encoder out of service once it has finished what it accepted."""
        await self._run(encoders.unload_encoder(name))

    async def set_encoder_alias(self, alias: str, encoder: str) -> Encoder:
        """Lets an alias mean an encoder (`NAME@VERSION`, or `NAME` for its newest version), after a restart too."""
        return await self._run(encoders.set_encoder_alias(alias, encoder))

    async def delete_encoder_alias(self, alias: str) -> None:
        """Removes an alias."""
        await self._run(encoders.delete_encoder_alias(alias))

    async def embed(
        self,
        texts: Iterable[str] | None = None,
        *,
        images: Iterable[Image] | None = None,
        **options: Unpack[EmbedOptions],
    ) -> Embeddings:
        """Returns the vectors of texts or images, in their order; options as in `EmbedOptions`."""
        return await self._run(encoders.embed(texts, images, options))

    async def embed_stream(
        self, batches: AsyncIterable[Sequence[str] | Sequence[Image]], **options: Unpack[EmbedOptions]
    ) -> AsyncIterator[Embeddings]:
        """Yields the vectors of each batch, in order, while later ones are on their way; as `Client.embed_stream`."""
        method: Any = self._channel.stream_stream(
            "/diptych.v1.EncoderService/EmbedStream",
            request_serializer=encoder_service_pb2.EmbedStreamRequest.SerializeToString,
            response_deserializer=encoder_service_pb2.EmbedStreamResponse.FromString,
        )
        failures: list[Exception] = []

        async def requests() -> AsyncIterator[encoder_service_pb2.EmbedStreamRequest]:
            try:
                async for batch in batches:
                    yield embed_chunk(batch, options)
            except Exception as error:
                # gRPC would only say that the iterator failed.
                failures.append(error)
                raise

        call = method(requests(), metadata=trace_metadata())
        try:
            async for reply in call:
                yield read_embed_chunk(reply, options)
        except aio.AioRpcError as error:
            raise failures[0] if failures else error_of_rpc(error, self._target) from None
        finally:
            call.cancel()

    async def create_collection(self, name: str, **arguments: Unpack[CollectionArguments]) -> Collection:
        """Creates a collection; arguments as in `CollectionArguments`."""
        return await self._run(collections.create_collection(name, arguments))

    async def collection(self, name: str) -> Collection:
        """Returns a collection as it stands."""
        return await self._run(collections.get_collection(name))

    async def collections(self) -> list[Collection]:
        """Returns the collections by name."""
        return await self._run(collections.list_collections())

    async def update_collection(
        self,
        name: str,
        *,
        display_name: str | None = None,
        fields: Mapping[str, str] | None = None,
        index: str | Index | None = None,
    ) -> Collection:
        """Changes a collection's display name, all of its fields, its index, or several of them.

        New fields may be filtered by when it returns; a new index is built while the old one answers.
        """
        return await self._run(
            collections.update_collection(name, display_name=display_name, fields=fields, index=index)
        )

    async def delete_collection(self, name: str, *, allow_missing: bool = False) -> None:
        """Deletes a collection with all its records."""
        await self._run(collections.delete_collection(name, allow_missing=allow_missing))

    async def upsert(self, collection: str, ids: Sequence[str], **arguments: Unpack[UpsertArguments]) -> WriteResult:
        """Writes records in place of those of the same id; arguments as in `UpsertArguments`, as `Client.upsert`."""
        return await self._run(records.upsert(collection, ids, arguments))

    async def update_metadata(
        self,
        collection: str,
        id: str,
        metadata: Mapping[str, MetadataValue],
        *,
        if_version: int | None = None,
    ) -> int:
        """Replaces one record's metadata and returns its new version; the vector stays."""
        return await self._run(records.update_metadata(collection, id, metadata, if_version=if_version))

    async def get(
        self, collection: str, ids: Sequence[str], *, min_sequence: int = 0, **parts: Unpack[PartArguments]
    ) -> list[Record | None]:
        """Returns records in the order of their ids, None where there is none; parts as in `PartArguments`."""
        return await self._run(records.get_records(collection, ids, parts, min_sequence=min_sequence))

    async def records(
        self,
        collection: str,
        *,
        filter: Filter | str | None = None,
        page_size: int = 100,
        **parts: Unpack[PartArguments],
    ) -> AsyncIterator[Record]:
        """Yields all records, or those for which a filter holds, by the bytes of their ids; as in `PartArguments`."""
        token = ""
        while True:
            page, token = await self._run(records.list_page(collection, token, page_size, parts, filter=filter))
            for record in page:
                yield record
            if not token:
                return

    async def count(self, collection: str, *, filter: Filter | str | None = None) -> int:
        """Returns the number of records, or of those for which a filter holds."""
        return await self._run(records.count_records(collection, filter=filter))

    async def delete(
        self, collection: str, ids: Sequence[str] | None = None, *, filter: Filter | str | None = None
    ) -> DeleteResult:
        """Deletes records by id, or all for which a filter holds, at once; ids that are not there are no error."""
        return await self._run(records.delete_records(collection, ids, filter=filter))

    async def search(self, collection: str, **arguments: Unpack[SearchArguments]) -> Neighbours:
        """Returns the neighbours of one query, best first; arguments as in `SearchArguments`."""
        return await self._run(search.search(collection, arguments))

    async def batch_search(self, collection: str, **arguments: Unpack[BatchSearchArguments]) -> list[Neighbours]:
        """Returns the neighbours of several queries, in order; arguments as in `BatchSearchArguments`."""
        return await self._run(search.batch_search(collection, arguments))

    async def _run(self, operation: Operation[Result]) -> Result:
        try:
            call = next(operation)
            while True:
                try:
                    reply = await self._send(call)
                except ClientError as error:
                    # The operation may know more of what failed; unless it does, this raises the error as it is.
                    call = operation.throw(error)
                else:
                    call = operation.send(reply)
        except StopIteration as done:
            result: Result = done.value
            return result

    async def _send(self, call: Call) -> Any:
        attempts = Attempts(call, self._retries, self._timeout_s)
        while True:
            try:
                send, timeout_s = self._method(call), attempts.remaining_s()
                return await send(call.request, timeout=timeout_s, metadata=trace_metadata())
            except aio.AioRpcError as error:
                failure = error_of_rpc(error, self._target)
            await asyncio.sleep(attempts.pause_after(failure))

    def _method(self, call: Call) -> Callable[..., Any]:
        if call.path not in self._methods:
            self._methods[call.path] = self._channel.unary_unary(
                call.path,
                request_serializer=type(call.request).SerializeToString,
                response_deserializer=call.reply_type.FromString,
            )
        return self._methods[call.path]

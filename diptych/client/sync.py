"""The client for ordinary code."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc

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
from diptych.client.sync_snapshots import SnapshotMethods
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

__all__ = ["Client"]

Result = TypeVar("Result")


class Client(SnapshotMethods):
    """Embeds, stores and searches on a diptych server.

    Calls may come from several threads. Failed calls are repeated where that is safe, within the deadline. Large
    batches are cut to fit the message limit.

        with Client("127.0.0.1:50051") as client:
            client.create_collection("notes", encoder="sentences")
            client.upsert("notes", ids=["a", "b"], texts=["first", "second"])
            print(list(client.search("notes", text="the first", k=1)))

    Args:
        target: `host:port` of the server.
        timeout_s: Deadline of one call in seconds, its retries included.
        credentials: For TLS; None connects in clear text.
        retries: When and how often failed calls are repeated.

    Every method raises `diptych.client.errors.ClientError`, by its subclasses, where the call fails, and `ValueError`
    where the arguments contradict each other.
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
            grpc.insecure_channel(target, CHANNEL_OPTIONS)
            if credentials is None
            else grpc.secure_channel(target, credentials, CHANNEL_OPTIONS)
        )
        self._methods: dict[str, Callable[..., Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls in flight are cancelled."""
        self._channel.close()

    def wait_until_ready(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Returns once the server is there and everything it is to serve is loaded.

        Args:
            timeout_s: Longest wait.

        Raises:
            ClientError: It was not ready in time.
        """
        watch: Any = self._channel.unary_stream(HEALTH_WATCH)
        call = watch(b"", timeout=timeout_s, wait_for_ready=True)
        try:
            for reply in call:
                if health_is_serving(reply):
                    call.cancel()
                    return
        except grpc.RpcError as error:
            raise error_of_rpc(error, self._target) from None

    def server(self) -> ServerInformation:
        """Returns what the server is and what it allows."""
        return self._run(encoders.get_server())

    def metrics(self) -> str:
        """Returns what the server has counted and timed, in Prometheus's text format."""
        return self._run(encoders.get_metrics())

    def encoders(self) -> list[Encoder]:
        """Returns the server's encoders by name, whatever their state."""
        return self._run(encoders.list_encoders())

    def encoder(self, name: str) -> Encoder:
        """Returns one encoder."""
        return self._run(encoders.get_encoder(name))

    def load_encoder(self, name: str) -> Encoder:
        """Loads a bundle of the server's folder by the folder's name, or swaps its encoder for what it holds now."""
        return self._run(encoders.load_encoder(name))

    def unload_encoder(self, name: str) -> None:
        """Takes an encoder out of service once it has finished what it accepted."""
        self._run(encoders.unload_encoder(name))

    def set_encoder_alias(self, alias: str, encoder: str) -> Encoder:
        """Lets an alias mean an encoder (`NAME@VERSION`, or `NAME` for its newest version), after a restart too."""
        return self._run(encoders.set_encoder_alias(alias, encoder))

    def delete_encoder_alias(self, alias: str) -> None:
        """Removes an alias."""
        self._run(encoders.delete_encoder_alias(alias))

    def embed(
        self,
        texts: Iterable[str] | None = None,
        *,
        images: Iterable[Image] | None = None,
        **options: Unpack[EmbedOptions],
    ) -> Embeddings:
        """Returns the vectors of texts or images, in their order; options as in `EmbedOptions`."""
        return self._run(encoders.embed(texts, images, options))

    def embed_stream(
        self, batches: Iterable[Sequence[str] | Sequence[Image]], **options: Unpack[EmbedOptions]
    ) -> Iterator[Embeddings]:
        """Yields the vectors of each batch, in order, while later batches are on their way.

        A stream has no deadline, and is not repeated: what was yielded is done, the rest is not.

        Args:
            batches: Each of texts only or of images only, and small enough for a message (32 MiB).
            **options: As in `EmbedOptions`.

        Yields:
            One result per batch.

        Raises:
            ClientError: A batch failed, or the stream broke.
        """
        method: Any = self._channel.stream_stream(
            "/diptych.v1.EncoderService/EmbedStream",
            request_serializer=encoder_service_pb2.EmbedStreamRequest.SerializeToString,
            response_deserializer=encoder_service_pb2.EmbedStreamResponse.FromString,
        )
        failures: list[Exception] = []

        def requests() -> Iterator[encoder_service_pb2.EmbedStreamRequest]:
            try:
                for batch in batches:
                    yield embed_chunk(batch, options)
            except Exception as error:
                # gRPC would only say that the iterator failed.
                failures.append(error)
                raise

        call = method(requests(), metadata=trace_metadata())
        try:
            for reply in call:
                yield read_embed_chunk(reply, options)
        except grpc.RpcError as error:
            raise failures[0] if failures else error_of_rpc(error, self._target) from None
        finally:
            call.cancel()

    def create_collection(self, name: str, **arguments: Unpack[CollectionArguments]) -> Collection:
        """Creates a collection; arguments as in `CollectionArguments`."""
        return self._run(collections.create_collection(name, arguments))

    def collection(self, name: str) -> Collection:
        """Returns a collection as it stands."""
        return self._run(collections.get_collection(name))

    def collections(self) -> list[Collection]:
        """Returns the collections by name."""
        return self._run(collections.list_collections())

    def update_collection(
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
        return self._run(collections.update_collection(name, display_name=display_name, fields=fields, index=index))

    def delete_collection(self, name: str, *, allow_missing: bool = False) -> None:
        """Deletes a collection with all its records."""
        self._run(collections.delete_collection(name, allow_missing=allow_missing))

    def upsert(self, collection: str, ids: Sequence[str], **arguments: Unpack[UpsertArguments]) -> WriteResult:
        """Writes records in place of those of the same id; arguments as in `UpsertArguments`.

        Durable, and seen by the next search, when it returns. A batch over 1,000 records or 16 MiB goes in several
        calls, each of which is atomic for itself.
        """
        return self._run(records.upsert(collection, ids, arguments))

    def update_metadata(
        self,
        collection: str,
        id: str,
        metadata: Mapping[str, MetadataValue],
        *,
        if_version: int | None = None,
    ) -> int:
        """Replaces one record's metadata and returns its new version; the vector stays."""
        return self._run(records.update_metadata(collection, id, metadata, if_version=if_version))

    def get(
        self, collection: str, ids: Sequence[str], *, min_sequence: int = 0, **parts: Unpack[PartArguments]
    ) -> list[Record | None]:
        """Returns records in the order of their ids, None where there is none; parts as in `PartArguments`."""
        return self._run(records.get_records(collection, ids, parts, min_sequence=min_sequence))

    def records(
        self,
        collection: str,
        *,
        filter: Filter | str | None = None,
        page_size: int = 100,
        **parts: Unpack[PartArguments],
    ) -> Iterator[Record]:
        """Yields all records, or those for which a filter holds, by the bytes of their ids; as in `PartArguments`."""
        token = ""
        while True:
            page, token = self._run(records.list_page(collection, token, page_size, parts, filter=filter))
            yield from page
            if not token:
                return

    def count(self, collection: str, *, filter: Filter | str | None = None) -> int:
        """Returns the number of records, or of those for which a filter holds."""
        return self._run(records.count_records(collection, filter=filter))

    def delete(
        self, collection: str, ids: Sequence[str] | None = None, *, filter: Filter | str | None = None
    ) -> DeleteResult:
        """Deletes records by id, or all for which a filter holds, at once; ids that are not there are no error."""
        return self._run(records.delete_records(collection, ids, filter=filter))

    def search(self, collection: str, **arguments: Unpack[SearchArguments]) -> Neighbours:
        """Returns the neighbours of one query, best first; arguments as in `SearchArguments`."""
        return self._run(search.search(collection, arguments))

    def batch_search(self, collection: str, **arguments: Unpack[BatchSearchArguments]) -> list[Neighbours]:
        """Returns the neighbours of several queries, in order; arguments as in `BatchSearchArguments`."""
        return self._run(search.batch_search(collection, arguments))

    def _run(self, operation: Operation[Result]) -> Result:
        try:
            call = next(operation)
            while True:
                try:
                    reply = self._send(call)
                except ClientError as error:
                    # The operation may know more of what failed; unless it does, this raises the error as it is.
                    call = operation.throw(error)
                else:
                    call = operation.send(reply)
        except StopIteration as done:
            result: Result = done.value
            return result

    def _send(self, call: Call) -> Any:
        attempts = Attempts(call, self._retries, self._timeout_s)
        while True:
            try:
                return self._method(call)(call.request, timeout=attempts.remaining_s(), metadata=trace_metadata())
            except grpc.RpcError as error:
                failure = error_of_rpc(error, self._target)
            time.sleep(attempts.pause_after(failure))

    def _method(self, call: Call) -> Callable[..., Any]:
        if call.path not in self._methods:
            self._methods[call.path] = self._channel.unary_unary(
                call.path,
                request_serializer=type(call.request).SerializeToString,
                response_deserializer=call.reply_type.FromString,
            )
        return self._methods[call.path]

"""CollectionService: keeps collections and their records."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from grpc import aio

from diptych.v1 import collection_service_pb2 as pb
from diptych.v1 import collection_service_pb2_grpc
from serving.backend import Backend
from serving.errors import CollectionNotFound, InvalidInput, ServingError
from serving.ingest import UpsertOptions, upsert
from serving.rpc.filters import condition_from_wire
from serving.rpc.health_service import HealthServicer
from serving.rpc.indexes import index_from_wire
from serving.rpc.inputs import drafts_from_wire
from serving.rpc.limits import bounded
from serving.rpc.metadata import metadata_from_wire
from serving.rpc.paging import cut_page, key_of_token, page_size_of, token_of_key
from serving.rpc.records import DEFAULT_PARTS, collection_to_wire, fields_from_wire, record_to_wire, spec_from_wire
from serving.rpc.stamps import deadline_of, stamp_of
from serving.rpc.status import item_errors_to_wire, status_of
from serving.telemetry.call import note_call, stage

__all__ = ["CollectionServicer"]

_CHANGEABLE = frozenset({"display_name", "fields", "index"})

Context = aio.ServicerContext[Any, Any]


class CollectionServicer(collection_service_pb2_grpc.CollectionServiceServicer):
    """Answers over the backend's collections.

    Args:
        backend: What it stands on.
        health: Hears of collections that come and go.
    """

    def __init__(self, backend: Backend, health: HealthServicer) -> None:
        self._backend = backend
        self._health = health

    async def CreateCollection(
        self,
        request: pb.CreateCollectionRequest,
        context: Context,
    ) -> pb.CreateCollectionResponse:
        """Creates a collection, pinned to its encoder's space where it names one."""
        wanted = request.collection
        encoder = self._backend.pool.roster.resolve(wanted.encoder) if wanted.encoder else None
        info = await self._backend.write(self._backend.catalogue.create, spec_from_wire(wanted, encoder))
        note_call(collection=info.spec.name)
        self._health.set(f"collection/{info.spec.name}", serving=True)
        return pb.CreateCollectionResponse(collection=collection_to_wire(info))

    async def GetCollection(self, request: pb.GetCollectionRequest, context: Context) -> pb.GetCollectionResponse:
        """Gets a collection as it stands."""
        collection = self._backend.collection(request.name)
        info = await self._backend.read(collection.info)
        return pb.GetCollectionResponse(collection=collection_to_wire(info))

    async def ListCollections(
        self,
        request: pb.ListCollectionsRequest,
        context: Context,
    ) -> pb.ListCollectionsResponse:
        """Lists the collections by name."""
        infos = sorted(await self._backend.read(self._backend.catalogue.list), key=lambda info: info.spec.name)
        size, after = page_size_of(request.page_size), key_of_token(request.page_token)
        page, token = cut_page(infos, lambda info: info.spec.name, size=size, after=after)
        return pb.ListCollectionsResponse(
            collections=[collection_to_wire(info) for info in page], next_page_token=token
        )

    async def UpdateCollection(
        self,
        request: pb.UpdateCollectionRequest,
        context: Context,
    ) -> pb.UpdateCollectionResponse:
        """Changes the display name, the fields or the index; nothing else can change."""
        paths = set(request.update_mask.paths)
        if not paths or not paths <= _CHANGEABLE:
            named = ", ".join(sorted(paths))
            raise InvalidInput(
                f"update_mask ({named}) must be of 'display_name', 'fields' and 'index'; the rest is fixed"
            )
        wanted = request.collection
        info = await self._backend.write(
            self._backend.catalogue.update,
            wanted.name,
            wanted.display_name if "display_name" in paths else None,
            fields=fields_from_wire(wanted.fields) if "fields" in paths else None,
            index=index_from_wire(wanted) if "index" in paths else None,
        )
        note_call(collection=info.spec.name)
        return pb.UpdateCollectionResponse(collection=collection_to_wire(info))

    async def DeleteCollection(
        self,
        request: pb.DeleteCollectionRequest,
        context: Context,
    ) -> pb.DeleteCollectionResponse:
        """Deletes a collection with its records."""
        try:
            await self._backend.write(self._backend.catalogue.delete, request.name)
        except CollectionNotFound:
            if not request.allow_missing:
                raise
        else:
            note_call(collection=request.name)
        self._health.forget(f"collection/{request.name}")
        return pb.DeleteCollectionResponse()

    async def UpsertRecords(self, request: pb.UpsertRecordsRequest, context: Context) -> pb.UpsertRecordsResponse:
        """Embeds what has no vector, and writes the batch durably."""
        return await self._upsert(request, deadline_of(context))

    async def UpsertRecordsStream(
        self, request_iterator: AsyncIterator[pb.UpsertRecordsStreamRequest], context: Context
    ) -> AsyncIterator[pb.UpsertRecordsStreamResponse]:
        """Writes batch after batch, one at a time so that later ones win, and acknowledges each."""
        index = 0
        async for request in request_iterator:
            try:
                outcome = await self._upsert(request.batch, deadline_of(context))
            except ServingError as error:
                yield pb.UpsertRecordsStreamResponse(batch_index=index, error=status_of(error))
            else:
                yield pb.UpsertRecordsStreamResponse(batch_index=index, outcome=outcome)
            index += 1

    async def UpdateRecordMetadata(
        self,
        request: pb.UpdateRecordMetadataRequest,
        context: Context,
    ) -> pb.UpdateRecordMetadataResponse:
        """Replaces a record's metadata; its vector stays."""
        note_call(items=1)
        collection = self._backend.collection(request.collection)
        metadata = metadata_from_wire(request.metadata)
        with stage("commit", collection=request.collection, items=1):
            outcome = await self._backend.write(
                collection.update_metadata,
                request.id,
                metadata,
                if_version=request.if_version if request.HasField("if_version") else None,
                request_id=request.request_id,
            )
        return pb.UpdateRecordMetadataResponse(version=outcome.versions[0])

    async def GetRecords(self, request: pb.GetRecordsRequest, context: Context) -> pb.GetRecordsResponse:
        """Gets records in the order of their ids, and says which are missing."""
        note_call(items=len(request.ids))
        if not request.ids:
            raise InvalidInput("ids must hold at least one id")
        collection = self._backend.collection(request.collection)
        found = await self._backend.read(collection.get, list(request.ids), min_sequence=request.min_sequence)
        parts = request.parts if request.HasField("parts") else DEFAULT_PARTS
        return bounded(
            pb.GetRecordsResponse(
                records=[record_to_wire(record, parts) for record in found if record is not None],
                missing_ids=[name for name, record in zip(request.ids, found, strict=True) if record is None],
            )
        )

    async def ListRecords(self, request: pb.ListRecordsRequest, context: Context) -> pb.ListRecordsResponse:
        """Lists records by the bytes of their ids."""
        size, after = page_size_of(request.page_size), key_of_token(request.page_token)
        collection = self._backend.collection(request.collection)
        if request.HasField("filter"):
            where = condition_from_wire(request.filter)
            page = await self._backend.read(collection.list_matching, where, page_size=size, after_id=after)
            found, end = page.records, page.next_after_id
        else:
            found = await self._backend.read(collection.list, page_size=size, after_id=after)
            end = found[-1].id if len(found) == size else ""
        parts = request.parts if request.HasField("parts") else DEFAULT_PARTS
        return bounded(
            pb.ListRecordsResponse(
                records=[record_to_wire(record, parts) for record in found], next_page_token=token_of_key(end)
            )
        )

    async def CountRecords(self, request: pb.CountRecordsRequest, context: Context) -> pb.CountRecordsResponse:
        """Counts records."""
        collection = self._backend.collection(request.collection)
        where = condition_from_wire(request.filter) if request.HasField("filter") else None
        return pb.CountRecordsResponse(record_count=await self._backend.read(collection.count, where))

    async def DeleteRecords(self, request: pb.DeleteRecordsRequest, context: Context) -> pb.DeleteRecordsResponse:
        """Deletes records by id, or all for which a filter holds; ids that are not there are no error."""
        note_call(items=len(request.ids))
        if bool(request.ids) == request.HasField("filter"):
            raise InvalidInput("either ids or filter must be set, and not both")
        collection = self._backend.collection(request.collection)
        with stage("commit", collection=request.collection, items=len(request.ids)):
            if request.ids:
                outcome = await self._backend.write(collection.delete, list(request.ids), request_id=request.request_id)
            else:
                where = condition_from_wire(request.filter)
                outcome = await self._backend.write(collection.delete_matching, where, request_id=request.request_id)
        deleted_count = sum(
            index not in outcome.errors and version > 0 for index, version in enumerate(outcome.versions)
        )
        return pb.DeleteRecordsResponse(sequence=outcome.sequence, deleted_count=deleted_count)

    async def _upsert(self, request: pb.UpsertRecordsRequest, deadline_s: float | None) -> pb.UpsertRecordsResponse:
        options = UpsertOptions(
            space=request.space,
            allow_partial=request.allow_partial,
            request_id=request.request_id,
            deadline_s=deadline_s,
        )
        outcome = await upsert(self._backend, request.collection, drafts_from_wire(request), options)
        return pb.UpsertRecordsResponse(
            sequence=outcome.sequence,
            versions=outcome.versions,
            item_errors=item_errors_to_wire(outcome.errors),
            truncated_indices=outcome.truncated,
            encoder=stamp_of(outcome.encoder),
        )

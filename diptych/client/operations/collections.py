"""Collections: create, get, list, update, delete."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.field_mask_pb2 import FieldMask

from diptych.client.arguments import CollectionArguments
from diptych.client.calls import Call, Operation
from diptych.client.filters import fields_message
from diptych.client.replies import collection_of
from diptych.client.types import Collection
from diptych.v1 import collection_pb2, embedding_pb2
from diptych.v1 import collection_service_pb2 as pb

__all__ = ["create_collection", "delete_collection", "get_collection", "list_collections", "update_collection"]

METRICS = {
    "": embedding_pb2.METRIC_UNSPECIFIED,
    "cosine": embedding_pb2.METRIC_COSINE,
    "inner_product": embedding_pb2.METRIC_INNER_PRODUCT,
    "l2": embedding_pb2.METRIC_L2,
}
INDEX_KINDS = {
    "auto": collection_pb2.INDEX_KIND_AUTO,
    "exact": collection_pb2.INDEX_KIND_EXACT,
    "hnsw": collection_pb2.INDEX_KIND_HNSW,
}


def create_collection(name: str, arguments: CollectionArguments) -> Operation[Collection]:
    """Creates a collection.

    Args:
        name: Its name.
        arguments: What it shall be.

    Returns:
        The operation; its result is the collection.

    Raises:
        ValueError: The metric, the index or a field's type is none that there is.
    """
    metric, index = arguments.get("metric", ""), arguments.get("index", "auto")
    if metric not in METRICS:
        raise ValueError(f"metric ({metric!r}) must be cosine, inner_product or l2")
    if index not in INDEX_KINDS:
        raise ValueError(f"index ({index!r}) must be auto, exact or hnsw")
    collection = collection_pb2.Collection(
        name=name,
        display_name=arguments.get("display_name", ""),
        encoder=arguments.get("encoder", ""),
        space=arguments.get("space", ""),
        dimension=arguments.get("dimension", 0),
        metric=METRICS[metric],
        index_kind=INDEX_KINDS[index],
        retain_sources=arguments.get("retain_sources", False),
        fields=fields_message(arguments.get("fields", {})),
    )
    # Not repeatable: a second try after a lost reply would find the first one's collection.
    request = pb.CreateCollectionRequest(collection=collection)
    reply = yield Call("CollectionService/CreateCollection", request, pb.CreateCollectionResponse, repeatable=False)
    return collection_of(reply.collection)


def get_collection(name: str) -> Operation[Collection]:
    """Gets a collection as it stands."""
    request = pb.GetCollectionRequest(name=name)
    reply = yield Call("CollectionService/GetCollection", request, pb.GetCollectionResponse)
    return collection_of(reply.collection)


def list_collections() -> Operation[list[Collection]]:
    """Lists the collections, page after page."""
    collections: list[Collection] = []
    token = ""
    while True:
        request = pb.ListCollectionsRequest(page_size=1_000, page_token=token)
        reply = yield Call("CollectionService/ListCollections", request, pb.ListCollectionsResponse)
        collections.extend(collection_of(message) for message in reply.collections)
        token = reply.next_page_token
        if not token:
            return collections


def update_collection(name: str, display_name: str | None, fields: Mapping[str, str] | None) -> Operation[Collection]:
    """Changes a collection's display name, its fields, or both; None leaves one as it is."""
    paths = [path for path, value in (("display_name", display_name), ("fields", fields)) if value is not None]
    if not paths:
        raise ValueError("there is nothing to change: give a display_name or fields")
    collection = collection_pb2.Collection(
        name=name, display_name=display_name or "", fields=fields_message(fields or {})
    )
    request = pb.UpdateCollectionRequest(collection=collection, update_mask=FieldMask(paths=paths))
    reply = yield Call("CollectionService/UpdateCollection", request, pb.UpdateCollectionResponse)
    return collection_of(reply.collection)


def delete_collection(name: str, *, allow_missing: bool) -> Operation[None]:
    """Deletes a collection with its records."""
    request = pb.DeleteCollectionRequest(name=name, allow_missing=allow_missing)
    yield Call("CollectionService/DeleteCollection", request, pb.DeleteCollectionResponse, repeatable=allow_missing)

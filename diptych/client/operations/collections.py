"""Collections: create, get, list, update, delete."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from google.protobuf.field_mask_pb2 import FieldMask

from diptych.client.arguments import CollectionArguments
from diptych.client.calls import Call, Operation
from diptych.client.filters import fields_message
from diptych.client.replies import collection_of
from diptych.client.types import Collection, Index
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
    "ivf": collection_pb2.INDEX_KIND_IVF,
}
STRUCTURES = {
    "auto": collection_pb2.INDEX_STRUCTURE_AUTO,
    "flat": collection_pb2.INDEX_STRUCTURE_FLAT,
    "hnsw": collection_pb2.INDEX_STRUCTURE_HNSW,
    "ivf": collection_pb2.INDEX_STRUCTURE_IVF,
    "ivf_hnsw": collection_pb2.INDEX_STRUCTURE_IVF_HNSW,
}
QUANTISERS = {
    "auto": collection_pb2.QUANTISER_AUTO,
    "float32": collection_pb2.QUANTISER_FLOAT32,
    "fp16": collection_pb2.QUANTISER_FP16,
    "sq8": collection_pb2.QUANTISER_SQ8,
    "pq": collection_pb2.QUANTISER_PQ,
    "rabitq": collection_pb2.QUANTISER_RABITQ,
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
    metric = arguments.get("metric", "")
    if metric not in METRICS:
        raise ValueError(f"metric ({metric!r}) must be cosine, inner_product or l2")
    collection = collection_pb2.Collection(
        name=name,
        display_name=arguments.get("display_name", ""),
        encoder=arguments.get("encoder", ""),
        space=arguments.get("space", ""),
        dimension=arguments.get("dimension", 0),
        metric=METRICS[metric],
        retain_sources=arguments.get("retain_sources", False),
        fields=fields_message(arguments.get("fields", {})),
    )
    _set_index(collection, arguments.get("index", "auto"))
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


def update_collection(
    name: str, *, display_name: str | None, fields: Mapping[str, str] | None, index: str | Index | None
) -> Operation[Collection]:
    """Changes a collection's display name, its fields, its index, or several of them; nothing else can change.

    Args:
        name: Its name.
        display_name: Its new display name; None leaves it.
        fields: All fields it shall have, by name their types; None leaves them.
        index: The index it shall have; None leaves it.

    Returns:
        The operation; its result is the collection.

    Raises:
        ValueError: There is nothing to change, or the index or a field's type is none that there is.
    """
    collection = collection_pb2.Collection(name=name)
    paths = []
    if display_name is not None:
        collection.display_name = display_name
        paths.append("display_name")
    if fields is not None:
        collection.fields.extend(fields_message(fields))
        paths.append("fields")
    if index is not None:
        _set_index(collection, index)
        paths.append("index")
    if not paths:
        raise ValueError("there is nothing to change: give a display_name, fields or an index")
    request = pb.UpdateCollectionRequest(collection=collection, update_mask=FieldMask(paths=paths))
    reply = yield Call("CollectionService/UpdateCollection", request, pb.UpdateCollectionResponse)
    return collection_of(reply.collection)


def delete_collection(name: str, *, allow_missing: bool) -> Operation[None]:
    """Deletes a collection with its records."""
    request = pb.DeleteCollectionRequest(name=name, allow_missing=allow_missing)
    yield Call("CollectionService/DeleteCollection", request, pb.DeleteCollectionResponse, repeatable=allow_missing)


def _set_index(collection: collection_pb2.Collection, index: str | Index) -> None:
    if isinstance(index, str):
        if index not in INDEX_KINDS:
            raise ValueError(f"index ({index!r}) must be auto, exact, hnsw, ivf or an Index")
        collection.index_kind = INDEX_KINDS[index]
        return
    if index.structure not in STRUCTURES:
        raise ValueError(f"structure ({index.structure!r}) must be {', '.join(STRUCTURES)}")
    if index.quantiser not in QUANTISERS:
        raise ValueError(f"quantiser ({index.quantiser!r}) must be {', '.join(QUANTISERS)}")
    collection.index.structure = STRUCTURES[index.structure]
    collection.index.quantiser = QUANTISERS[index.quantiser]
    for field in dataclasses.fields(index):
        if field.name not in ("structure", "quantiser"):
            setattr(collection.index, field.name, getattr(index, field.name))

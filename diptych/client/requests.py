"""Builds requests out of what callers give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.client.arguments import EmbedOptions, PartArguments, SearchArguments, SearchOptions
from diptych.client.expressions import parse_filter
from diptych.client.filters import Filter
from diptych.client.metadata import metadata_of_values, timestamp_of_moment
from diptych.client.tensors import encoding_of, tensor_of_vector
from diptych.client.types import Embeddings, Image, MetadataValue, StoredRecord
from diptych.v1 import (
    collection_pb2,
    collection_service_pb2,
    embedding_pb2,
    encoder_service_pb2,
    filter_pb2,
    search_service_pb2,
)

__all__ = [
    "embed_request",
    "filter_message",
    "image_bytes",
    "inputs_of",
    "one_of",
    "parts_message",
    "query_message",
    "record_writes",
    "search_parameters",
    "vectors_and_space",
]

PURPOSES = {"document": embedding_pb2.PURPOSE_DOCUMENT, "query": embedding_pb2.PURPOSE_QUERY}


def one_of(arguments: Mapping[str, Any], names: Sequence[str]) -> str:
    """Returns which one of several arguments was given.

    Args:
        arguments: What the caller gave.
        names: The alternatives.

    Returns:
        The name of the only one given.

    Raises:
        ValueError: None was, or several were.
    """
    given = [name for name in names if arguments.get(name) is not None]
    if len(given) != 1:
        raise ValueError(f"give exactly one of {', '.join(names)} (given: {', '.join(given) or 'none'})")
    return given[0]


def image_bytes(image: Image) -> bytes:
    """Returns an image's encoded bytes.

    Args:
        image: The bytes, or the file that holds them.

    Returns:
        The bytes as they are; nothing is decoded here.
    """
    return image.read_bytes() if isinstance(image, Path) else image


def inputs_of(texts: Iterable[str] | None, images: Iterable[Image] | None) -> list[embedding_pb2.Input]:
    """Returns inputs for the wire.

    Args:
        texts: Texts, or None.
        images: Images, or None.

    Returns:
        One input per text or image.

    Raises:
        ValueError: Both or neither are given, or texts are a single string.
    """
    kind = one_of({"texts": texts, "images": images}, ["texts", "images"])
    if isinstance(texts, str):
        raise ValueError("texts must be a list of strings, not one string")
    if kind == "texts":
        return [embedding_pb2.Input(text=text) for text in texts or ()]
    return [embedding_pb2.Input(image=image_bytes(image)) for image in images or ()]


def embed_request(inputs: Sequence[embedding_pb2.Input], options: EmbedOptions) -> encoder_service_pb2.EmbedRequest:
    """Returns the request for one batch.

    Args:
        inputs: The batch.
        options: How to embed.

    Returns:
        The message.

    Raises:
        ValueError: The purpose or the encoding is none that there is.
    """
    purpose = options.get("purpose", "document")
    if purpose not in PURPOSES:
        raise ValueError(f"purpose ({purpose!r}) must be 'document' or 'query'")
    cut = options.get("truncate", True)
    return encoder_service_pb2.EmbedRequest(
        encoder=options.get("encoder", ""),
        inputs=inputs,
        purpose=PURPOSES[purpose],
        output_dimension=options.get("dimension", 0),
        output_encoding=encoding_of(options.get("encoding", "float32")),
        truncation=embedding_pb2.TRUNCATION_CUT if cut else embedding_pb2.TRUNCATION_REFUSE,
    )


def vectors_and_space(vectors: Any, space: str) -> tuple[NDArray[Any], str]:
    """Returns vectors and the space they are of.

    Args:
        vectors: `[n, d]`, or what `embed` gave.
        space: As the caller states it; empty where it does not.

    Returns:
        The array, and the space.

    Raises:
        ValueError: They are codes, which lost too much to be stored or searched by, or another space is stated.
    """
    if not isinstance(vectors, Embeddings):
        return np.asarray(vectors), space
    if vectors.vectors.dtype.kind != "f":
        raise ValueError("embeddings in int8 or binary cannot be sent back; embed with encoding='float32'")
    if space not in ("", vectors.space):
        raise ValueError(f"the embeddings are of the space {vectors.space!r}, not {space!r}; leave `space` out")
    return vectors.vectors, vectors.space


def record_writes(
    ids: Sequence[str],
    inputs: Sequence[embedding_pb2.Input] | None,
    metadata: Sequence[Mapping[str, MetadataValue]] | None,
    if_versions: Sequence[int | None] | None,
    expire_times: Sequence[datetime | None] | None = None,
) -> list[collection_service_pb2.RecordWrite]:
    """Returns records for the wire, without packed vectors.

    Args:
        ids: One per record.
        inputs: What to embed, or None where vectors come packed.
        metadata: Per record, or None.
        if_versions: Per record, or None.
        expire_times: Per record, or None.

    Returns:
        One message per record.

    Raises:
        ValueError: The lengths differ, or a time has no time zone.
    """
    given = {"inputs": inputs, "metadata": metadata, "if_versions": if_versions, "expire_times": expire_times}
    for name, values in given.items():
        if values is not None and len(values) != len(ids):
            raise ValueError(f"{len(values)} {name} for {len(ids)} ids; they must be as many")
    writes = [collection_service_pb2.RecordWrite(id=identifier) for identifier in ids]
    for index, write in enumerate(writes):
        if inputs is not None:
            write.input.CopyFrom(inputs[index])
        if metadata is not None:
            write.metadata.CopyFrom(metadata_of_values(metadata[index]))
        if if_versions is not None and (version := if_versions[index]) is not None:
            write.if_version = version
        if expire_times is not None and (moment := expire_times[index]) is not None:
            write.expire_time.CopyFrom(timestamp_of_moment(moment, f"expire_times[{index}]"))
    return writes


def parts_message(arguments: PartArguments, *, metadata: bool) -> collection_pb2.RecordParts:
    """Returns which parts of records to return.

    Args:
        arguments: What the caller asked for.
        metadata: Whether metadata comes along where the caller does not say.

    Returns:
        The message.
    """
    return collection_pb2.RecordParts(
        vector=arguments.get("with_vectors", False),
        metadata=arguments.get("with_metadata", metadata),
        source=arguments.get("with_sources", False),
    )


def search_parameters(options: SearchOptions) -> search_service_pb2.SearchParameters:
    """Returns how to search.

    Args:
        options: What the caller asked for.

    Returns:
        The message.

    Raises:
        ValueError: `k` is below 1, or the filter cannot be read.
    """
    k = options.get("k", 10)
    if k < 1:
        raise ValueError(f"k ({k}) must be at least 1")
    return search_service_pb2.SearchParameters(
        k=k,
        score_threshold=options.get("score_threshold"),
        exact=options.get("exact", False),
        parts=parts_message(options, metadata=False),
        filter=filter_message(options.get("filter")),
        min_sequence=options.get("min_sequence", 0),
    )


def filter_message(given: Filter | str | None) -> filter_pb2.Filter | None:
    """Returns a filter for the wire.

    Args:
        given: As built or written; None where there is none.

    Returns:
        The message; None where there is none.
    """
    if given is None:
        return None
    return (parse_filter(given) if isinstance(given, str) else given).message


def query_message(arguments: SearchArguments) -> search_service_pb2.Query:
    """Returns what to find neighbours of.

    Args:
        arguments: What the caller gave.

    Returns:
        The message.

    Raises:
        ValueError: Not exactly one kind of query was given.
    """
    kind = one_of(arguments, ["text", "image", "vector", "record", "positives"])
    if kind != "positives" and arguments.get("negatives"):
        raise ValueError("negatives need positives")
    query = search_service_pb2.Query()
    if kind == "positives":
        query.examples.positives.extend(_example(value) for value in arguments["positives"])
        query.examples.negatives.extend(_example(value) for value in arguments.get("negatives", ()))
    elif kind == "text":
        query.input.text = arguments["text"]
    elif kind == "image":
        query.input.image = image_bytes(arguments["image"])
    elif kind == "vector":
        query.vector.CopyFrom(tensor_of_vector(arguments["vector"]))
    else:
        query.record_id = arguments["record"]
    return query


def _example(value: Any) -> search_service_pb2.Example:
    match value:
        case StoredRecord():
            return search_service_pb2.Example(record_id=value.id)
        case str():
            return search_service_pb2.Example(input=embedding_pb2.Input(text=value))
        case bytes() | Path():
            return search_service_pb2.Example(input=embedding_pb2.Input(image=image_bytes(value)))
        case _:
            return search_service_pb2.Example(vector=tensor_of_vector(value))

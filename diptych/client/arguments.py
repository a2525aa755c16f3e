"""Named arguments that several calls share, each described once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypedDict

from numpy.typing import ArrayLike

from diptych.client.filters import Filter
from diptych.client.types import Embeddings, Image, Index, MetadataValue, StoredRecord

__all__ = [
    "BatchSearchArguments",
    "CollectionArguments",
    "EmbedOptions",
    "PartArguments",
    "SearchArguments",
    "SearchOptions",
    "UpsertArguments",
]


class EmbedOptions(TypedDict, total=False):
    """How to embed."""

    encoder: str
    """Name of the encoder; may be left out where only one reads this kind of input."""
    purpose: str
    """`document` (the default) or `query`."""
    dimension: int
    """Width to cut the vectors to, one of the encoder's `truncatable_dimensions`; 0, the default, keeps all."""
    encoding: str
    """`float32` (the default), `float16`, `int8` or `binary`."""
    truncate: bool
    """Whether over-long texts are cut (the default) or refused."""
    allow_partial: bool
    """Whether inputs that fail come back as `errors`; otherwise, the default, the first of them is raised."""


class CollectionArguments(TypedDict, total=False):
    """What a new collection shall be."""

    encoder: str
    """Encoder that embeds texts or images for it; gives it space, dimension and metric."""
    space: str
    """Embedding space of its vectors, where it has no encoder; empty for vectors of unstated origin."""
    dimension: int
    """Width of its vectors; needed where it has no encoder."""
    metric: str
    """`cosine` (the default without an encoder), `inner_product` or `l2`."""
    index: str | Index
    """`auto` (the default), `exact`, `hnsw`, `ivf`, or an `Index` in every detail."""
    display_name: str
    """A name for people."""
    retain_sources: bool
    """Whether the text or image of each record is kept."""
    fields: Mapping[str, str]
    """Metadata fields that filters may name: `string`, `integer`, `float`, `bool`, `timestamp`, `string_list` or
    `geo_point` by name. Other metadata is kept, but cannot be filtered by."""


class UpsertArguments(TypedDict, total=False):
    """What to write; exactly one of `vectors`, `texts` and `images` is needed."""

    vectors: ArrayLike | Embeddings
    """`[n, d]`, or what `embed` gave, which states its space itself."""
    texts: Sequence[str]
    """To be embedded by the collection's encoder."""
    images: Sequence[Image]
    """To be embedded by the collection's encoder."""
    metadata: Sequence[Mapping[str, MetadataValue]]
    """Per record."""
    if_versions: Sequence[int | None]
    """Per record the version it must have; 0: must not be there; None: whatever."""
    expire_times: Sequence[datetime | None]
    """Per record when it ends, with a time zone; None: never."""
    space: str
    """Embedding space of `vectors`."""
    allow_partial: bool
    """Whether good records are written when others fail."""
    request_id: str
    """What makes this batch known, at most 100 bytes: repeated, it is written once. A new one unless given."""


class PartArguments(TypedDict, total=False):
    """Which parts of records to return."""

    with_vectors: bool
    """Default: no."""
    with_metadata: bool
    """Default: yes for reads, no for searches."""
    with_sources: bool
    """Default: no."""


class SearchOptions(PartArguments, total=False):
    """How to search."""

    k: int
    """Neighbours of each query; default 10."""
    score_threshold: float
    """Least score of a neighbour."""
    exact: bool
    """Whether every vector is compared, whatever the index."""
    filter: Filter | str
    """What must hold of a neighbour's metadata: `field("price") < 5`, or the same as text, `"price < 5"`."""
    min_sequence: int
    """A sequence that a write returned; the search sees that write."""
    space: str
    """Embedding space of vectors sent; not needed where the collection has none."""


class SearchArguments(SearchOptions, total=False):
    """What to find neighbours of: one of the first four, or `positives` with or without `negatives`."""

    text: str
    image: Image
    vector: ArrayLike
    """`[d]`."""
    record: str
    """Id of a stored record; it is not its own neighbour."""
    positives: Sequence[str | Image | ArrayLike | StoredRecord]
    """Things to resemble: texts, images, vectors; stored records as `StoredRecord(id)`."""
    negatives: Sequence[str | Image | ArrayLike | StoredRecord]
    """Things not to resemble."""


class BatchSearchArguments(SearchOptions, total=False):
    """What to find neighbours of; exactly one of the first four."""

    texts: Sequence[str]
    images: Sequence[Image]
    vectors: ArrayLike | Embeddings
    """`[n, d]`, or what `embed` gave with purpose `query`."""
    records: Sequence[str]
    """Ids of stored records."""
    allow_partial: bool
    """Whether queries that fail come back with their `error`; otherwise, the default, the first is raised."""

"""The words collections are spoken of in; no storage, index or wire type appears here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from serving.collections.index_types import IndexKind, IndexSpec, IndexStatus

__all__ = [
    "CollectionInfo",
    "CollectionSpec",
    "FieldDefinition",
    "FieldType",
    "GeoPoint",
    "Hits",
    "IndexKind",
    "IndexSpec",
    "IndexStatus",
    "MetadataValue",
    "Metric",
    "Record",
    "RecordWrite",
    "WriteOutcome",
]


@dataclass(frozen=True, slots=True)
class GeoPoint:
    """A place on Earth: degrees, latitude in [-90, 90], longitude in [-180, 180]."""

    latitude_deg: float
    longitude_deg: float


MetadataValue = str | int | float | bool | datetime | GeoPoint | tuple[str, ...]
"""One metadata value. Integers are 64-bit signed; datetimes are UTC with microseconds; NaN is refused."""


class FieldType(StrEnum):
    """What the values of a declared metadata field are."""

    STRING = "string"
    INTEGER = "integer"
    FLOAT = "float"
    BOOL = "bool"
    TIMESTAMP = "timestamp"
    STRING_LIST = "string_list"
    GEO_POINT = "geo_point"


@dataclass(frozen=True, slots=True)
class FieldDefinition:
    """A metadata field that filters may name; other metadata is kept, but cannot be filtered by."""

    name: str
    type: FieldType


class Metric(StrEnum):
    """How closeness is scored; higher is closer, always (l2: minus the squared distance)."""

    COSINE = "cosine"
    INNER_PRODUCT = "inner_product"
    L2 = "l2"


@dataclass(frozen=True, kw_only=True, slots=True)
class CollectionSpec:
    """What a collection is; fixed at its creation, but for the display name, the fields and the index."""

    name: str
    """`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`."""
    space: str
    """Embedding space its vectors belong to; empty for raw vectors of unstated origin."""
    dimension: int
    """Width of its vectors, in [1, 65536]."""
    metric: Metric = Metric.COSINE
    encoder: str = ""
    """Name of the encoder that embeds text and images for it; empty where it takes vectors only."""
    index: IndexSpec = field(default_factory=IndexSpec)
    """Index it is asked to have; an update may change it."""
    display_name: str = ""
    """For people; an update may change it."""
    retain_source: bool = False
    """Whether the text or image a record was embedded from is kept."""
    fields: tuple[FieldDefinition, ...] = ()
    """Metadata fields that filters may name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CollectionInfo:
    """A collection as it stands."""

    spec: CollectionSpec
    create_time: datetime
    update_time: datetime
    record_count: int
    sequence: int
    """The number of the last write; a record's version is the sequence that wrote it."""
    index: IndexStatus
    """The index as it stands."""

    @property
    def index_kind(self) -> IndexKind:
        """What answers now, in a word."""
        return self.index.kind

    @property
    def indexed_count(self) -> int:
        """Records in the index; the rest are compared one by one."""
        return self.index.indexed_count


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordWrite:
    """One record to be written."""

    id: str
    """UTF-8, 1 to 256 bytes, no control characters; compared bytewise."""
    vector: NDArray[np.float32]
    """`[d]`, finite; not zero where the metric is cosine."""
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    if_version: int | None = None
    """Write only where the stored version equals this; 0: only where there is none."""
    source: bytes | None = None
    """What it was embedded from; kept only where the collection retains sources."""
    source_type: str = ""
    """MIME type of `source`."""
    fingerprint: str = ""
    """Artefact that made the vector; empty for vectors the caller brought."""
    origin: bytes = b""
    """What the vector was computed from, where the caller did not bring it. A repeated request is recognised by this,
    since the last bits of a computed vector depend on the batch it was computed in."""
    expire_time: datetime | None = None
    """From when on the record is no more, with a time zone, to the microsecond; `None`: it stays."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One record as stored."""

    id: str
    version: int
    vector: NDArray[np.float32]
    metadata: Mapping[str, MetadataValue]
    source: bytes | None = None
    source_type: str = ""
    fingerprint: str = ""
    expire_time: datetime | None = None
    """In UTC; `None`: it stays."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteOutcome:
    """What became of a batch of writes."""

    sequence: int
    """The collection's sequence after it; each committed record's version is in `versions`."""
    versions: Sequence[int]
    """Per item the new version; 0 where the item failed."""
    errors: Mapping[int, Exception] = field(default_factory=dict)
    """Per failed index the error; empty for an atomic batch, which raises instead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hits:
    """Neighbours of one query, best first; parallel arrays of equal length."""

    ids: Sequence[str]
    scores: NDArray[np.float32]
    versions: NDArray[np.int64]
    records: Sequence[Record] | None = None
    """The records themselves, where asked for."""
